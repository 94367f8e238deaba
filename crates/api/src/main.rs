//! Arguments select a command. Exit codes: 0 success, 1 failure, 2 invalid arguments or configuration.

use std::io::Write;
use std::process::ExitCode;

use api::commands::{self, backup, check, completions, delete, export, healthcheck, man, migrate, restore};
use api::commands::{selftest, send, serve, sign, version};
use api::config::ServeArgs;
use clap::{CommandFactory, Parser, Subcommand};
use mimalloc::MiMalloc;

/// Allocator of all threads. A message is allocated by the thread that receives it and freed by the thread that writes
/// it; with other allocators these wait for each other.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A durable inbox for webhooks: verifies each message, stores it exactly once, and answers 200 only when it is on
/// disk.
///
/// Without a command, it serves. Every setting is also an environment variable, shown beside its flag.
#[derive(Parser)]
#[command(name = "hookkeeper", version = api::VERSION, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum Command {
    Serve(ServeArgs),
    Migrate(migrate::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Check(check::Args),
    Delete(delete::Args),
    Export(export::Args),
    Selftest(selftest::Args),
    Healthcheck(healthcheck::Args),
    Sign(sign::Args),
    Send(send::Args),
    Version(version::Args),
    Completions(completions::Args),
    Man(man::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Migrate(args)) => migrate::run(&args),
        Some(Command::Backup(args)) => backup::run(&args),
        Some(Command::Restore(args)) => restore::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Delete(args)) => delete::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Selftest(args)) => selftest::run(&args),
        Some(Command::Healthcheck(args)) => healthcheck::run(&args),
        Some(Command::Sign(args)) => sign::run(&args),
        Some(Command::Send(args)) => send::run(&args),
        Some(Command::Version(args)) => version::run(&args),
        Some(Command::Completions(args)) => completions::run(&args, Cli::command()),
        Some(Command::Man(args)) => man::run(&args, Cli::command()),
    };
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    // A closed standard error leaves nowhere to report to.
    let _ = writeln!(std::io::stderr(), "hookkeeper: {error}");
    match error {
        commands::Error::Config(_) | commands::Error::Tls(_) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}
