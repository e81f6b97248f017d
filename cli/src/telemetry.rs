//! Logs. Long-running commands log at `info`, people's commands only warnings; `AUSPEX_LOG` overrides both.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, Command};

/// Starts logging to standard error: lines on a terminal, JSON elsewhere when the command is a service.
pub(crate) fn start(arguments: &Arguments) {
    let service = match &arguments.command {
        Command::Indexer(_) | Command::Oracle(_) | Command::Broker(_) => true,
        Command::Operator(group) => group.command.is_service(),
        Command::Model(command) => command.is_service(),
        Command::Agent(_)
        | Command::Offer(_)
        | Command::Request(_)
        | Command::Credit(_)
        | Command::OperatorSet(_)
        | Command::Corpus(_)
        | Command::Eval(_)
        | Command::Setup(_)
        | Command::Dev(_)
        | Command::Demo(_) => false,
    };
    // Where Vulkan has no GPU, wgpu looks for one through OpenGL as well. That a server has no display for it is no
    // error, and what wgpu then uses is in its answer.
    let default = if service {
        "info,rumqttd=warn,sqlx=warn,wgpu_hal::gles=off"
    } else {
        "warn,rumqttd=error,wgpu_hal::gles=off"
    };
    let filter = EnvFilter::try_from_env("AUSPEX_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // A service goes on when nobody reads its log any more; telling that on standard error would panic.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false);
    if service && !io::stderr().is_terminal() {
        builder.json().init();
    } else {
        builder.with_target(service).init();
    }
}
