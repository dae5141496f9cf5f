//! The `sisyphus` binary: everything that can be wrong without a database is found before a runtime exists.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches};
use sisyphus::{
    cli::{Cli, Command, without_empty_variables},
    commands,
    config::{Connection, process_env},
    db::client::Session,
    error::{Error, ErrorKind, Result},
    keeper, observe,
};

/// What helps whoever lacks a right of which the database says no more.
const ROLES: &str =
    "an admin grants roles: sisyphus_viewer, sisyphus_operator, sisyphus_author, sisyphus_admin";

fn main() -> ExitCode {
    // Clap itself ends wrong usage with 2, help and version with 0.
    let matches = without_empty_variables(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|err| err.exit());
    match run(cli).map_err(|error| error.hint_if_denied(ROLES)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if reader_has_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let mut out = io::stderr().lock();
            // Nobody is left to tell when stderr fails too.
            let _ = error.report(&mut out).and_then(|()| out.flush());
            error.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    if matches!(cli.command, Command::Keeper(_) | Command::Guardian(_)) {
        keeper::hide()?;
    }
    observe::init(cli.log_format)?;
    let connect = || Connection::resolve(cli.database_url.as_deref(), &process_env);
    match cli.command {
        // The keeper forks: it must stay a process of one thread.
        Command::Keeper(args) => commands::keeper::run(args),
        Command::Dev(args) => block_on(commands::dev::run(args)),
        Command::Guardian(args) => {
            let connection = connect()?;
            block_on(commands::guardian::run(args, cli.database_url, connection))
        }
        Command::Migrate(args) => block_on(commands::migrate::run(args, &connect()?)),
        Command::Ask(ask) => {
            let connection = connect()?;
            block_on(async { ask.run(&Session::open(&connection).await?).await })
        }
        Command::Doctor(args) => block_on(commands::doctor::run(args, &connect()?)),
        Command::Config(args) => commands::config::run(&args, &connect()?),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sisyphus", &mut script);
            commands::output::print_raw(&String::from_utf8_lossy(&script))
        }
    }
}

fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    // One thread: the tasks wait far more than they work, and each thread more costs memory of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(ErrorKind::Failed, "the runtime cannot start").source(e))?;
    let outcome = runtime.block_on(command);
    // A name that is being looked up in vain must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// `sisyphus jobs | head` is no failure.
fn reader_has_gone(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_does_not_wait_for_a_call_that_blocks() {
        let outcome = block_on(async {
            tokio::task::spawn_blocking(|| {
                loop {
                    std::thread::park();
                }
            });
            Ok(())
        });
        assert!(outcome.is_ok());
    }
}
