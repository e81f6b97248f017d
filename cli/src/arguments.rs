//! The command line. Every option has an environment variable where a machine would set it, and no option ever takes a
//! secret itself: keys come from encrypted keystores, passwords from files or a prompt.

use clap::{Args, Parser, Subcommand};

use crate::command;
use crate::connection::ConnectionArguments;

/// Auspex: paid requests to AI agents, answered by operators, settled on chain, and checkable by anyone.
///
/// Requesters use `request` and `credit`, readers use the indexer's GraphQL and REST, operators use `operator`,
/// `corpus`, `oracle` and `indexer`. `auspex dev` starts a whole world on this machine to try them in.
#[derive(Debug, Parser)]
#[command(name = "auspex", version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Arguments {
    /// Print JSON for machines instead of tables for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A group of commands that talk to a chain and an indexer.
#[derive(Debug, Args)]
pub(crate) struct Connected<C: Subcommand> {
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,

    #[command(subcommand)]
    pub(crate) command: C,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register agents (ERC-8004) and look at them.
    Agent(Connected<command::agent::AgentCommand>),
    /// Publish what an agent sells.
    Offer(Connected<command::offer::OfferCommand>),
    /// Submit paid requests, watch them, read answers, take refunds.
    Request(Connected<command::request::RequestCommand>),
    /// Look at credits and withdraw them.
    Credit(Connected<command::credit::CreditCommand>),
    /// Create an operator's keys, register it, look at its state.
    Operator(Connected<command::operator::OperatorCommand>),
    /// Create operator sets and start their epochs.
    OperatorSet(Connected<command::operator_set::OperatorSetCommand>),
    /// Load documents and search them.
    #[command(subcommand)]
    Corpus(command::corpus::CorpusCommand),
    /// Follow the chain and serve its history.
    #[command(subcommand)]
    Indexer(command::indexer::IndexerCommand),
    /// Answer requests.
    #[command(subcommand)]
    Oracle(command::oracle::OracleCommand),
    /// Look at devices and embed text.
    #[command(subcommand)]
    Model(command::model::ModelCommand),
    /// Measure quality on published data sets.
    #[command(subcommand)]
    Eval(command::eval::EvalCommand),
    /// Install what the embedded world needs: PostgreSQL with pgvector, anvil, the embedding model.
    Setup(command::setup::SetupCommand),
    /// Run the embedded MQTT broker on loopback.
    Broker(command::broker::BrokerCommand),
    /// Start a whole world on this machine and keep it running until Ctrl-C.
    Dev(command::dev::DevCommand),
    /// Run the main job once, show it, and stop.
    Demo(command::demo::DemoCommand),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_signing_account_can_be_named_wherever_an_account_can() {
        let account = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc";
        for line in [
            vec!["auspex", "credit", "withdraw", "--for", account, "--as", "bystander"],
            vec!["auspex", "credit", "show", account, "--as", "bystander"],
            vec!["auspex", "agent", "list", "--owner", account, "--as", "bystander"],
        ] {
            Arguments::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
    }

    #[test]
    fn every_command_says_how_to_use_it() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no description");
            if command.has_subcommands() {
                for sub in command.get_subcommands() {
                    check(sub, &format!("{path} {}", sub.get_name()));
                }
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("auspex "), "{path} --help has no example");
            }
        }
        for command in Arguments::command().get_subcommands() {
            check(command, &format!("auspex {}", command.get_name()));
        }
    }
}
