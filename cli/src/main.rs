//! `auspex`: the one binary. `main` only parses and wires; every command is one file under `command/`.

#![recursion_limit = "256"]

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::output::Output;

mod arguments;
mod chain;
mod command;
mod connection;
mod database;
mod indexer_client;
mod output;
mod screen;
mod telemetry;
mod token;
mod units;
mod wallet;
mod world;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(refused) => return refuse(&refused),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            Output::new(arguments.json).error(&anyhow::Error::new(error).context("start runtime"));
            return ExitCode::FAILURE;
        }
    };
    let output = Output::new(arguments.json);
    telemetry::start(&arguments);
    let outcome = runtime.block_on(run(arguments, output));
    // A command that is done does not wait for idle pools and sockets.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Help and versions are text for everybody; a mistake is JSON where machines read.
fn refuse(refused: &clap::Error) -> ExitCode {
    let for_machines = std::env::args_os().any(|argument| argument == "--json");
    if refused.use_stderr() && for_machines {
        let text = refused.render().to_string();
        let message = text.trim().trim_start_matches("error: ").to_owned();
        Output::new(true).error(&anyhow::Error::msg(message));
    } else {
        // Nothing sensible is left to do when the terminal is gone.
        let _ = refused.print();
    }
    ExitCode::from(u8::try_from(refused.exit_code()).unwrap_or(u8::MAX))
}

async fn run(arguments: Arguments, output: Output) -> anyhow::Result<()> {
    match arguments.command {
        Command::Agent(group) => {
            command::agent::run(group.command, &group.connection, output).await
        }
        Command::Offer(group) => {
            command::offer::run(group.command, &group.connection, output).await
        }
        Command::Request(group) => {
            command::request::run(group.command, &group.connection, output).await
        }
        Command::Credit(group) => {
            command::credit::run(group.command, &group.connection, output).await
        }
        Command::Operator(group) => {
            command::operator::run(group.command, &group.connection, output).await
        }
        Command::OperatorSet(group) => {
            command::operator_set::run(group.command, &group.connection, output).await
        }
        Command::Corpus(command) => command::corpus::run(command, output).await,
        Command::Indexer(command) => command::indexer::run(command, output).await,
        Command::Oracle(command) => command::oracle::run(command).await,
        Command::Model(command) => command::model::run(command, output).await,
        Command::Eval(command) => command::eval::run(command, output).await,
        Command::Setup(command) => command::setup::run(command, output).await,
        Command::Broker(command) => command::broker::run(&command),
        Command::Dev(command) => command::dev::run(command, output).await,
        Command::Demo(command) => command::demo::run(command, output).await,
    }
}
