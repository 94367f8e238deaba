//! Demonstration data and measurements: what `make demo` and `make bench` run.
//!
//! Nothing of it is in the binary that is shipped.

#![expect(clippy::print_stdout, reason = "its results are for people, on standard output")]

mod attack;
mod attacker;
mod child;
mod client;
mod demo;
mod fill;
mod honest;
mod ingest;
mod load;
mod messages;
mod overload;
mod reads;
mod report;
mod restart;
mod retention;
mod sender;
mod server;
mod target;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// As in the program that is measured.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Whatever goes wrong ends the command, and is printed.
type BenchError = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Demonstration data and measurements for Hookkeeper")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print realistic messages, one JSON object a line; the same seed gives the same messages
    Messages(messages::Args),
    /// Send a thousand messages to a service, starting it if needed, and show what came in
    Demo(demo::Args),
    /// Fill a store with realistic messages
    Fill(fill::Args),
    /// Measure POST /webhook with group commit, with one commit per request, and without a store
    Ingest(ingest::Args),
    /// Measure each question on a filled store, alone and under full ingest
    Reads(reads::Args),
    /// Kill the server under load, and measure its next start on a filled store
    Restart(restart::Args),
    /// Measure what ingest costs while half of a store expires
    Retention(retention::Args),
    /// Offer more than the store takes, and see what is accepted, what is shed, how long it takes and how much
    /// memory
    Overload(overload::Args),
    /// Attack the shipped program from one address, and see what another sender notices; exits with 1 if it is too much
    Attack(attack::Args),
    /// Be the client that attacks (what the attacks start)
    #[command(hide = true)]
    Attacker(attacker::Args),
    /// Serve with one of these stores (what the measurements start)
    #[command(hide = true)]
    Server(server::Args),
}

fn main() -> ExitCode {
    let result: Result<(), BenchError> = match Cli::parse().command {
        Command::Messages(args) => messages::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Fill(args) => fill::run(&args),
        Command::Ingest(args) => ingest::run(&args),
        Command::Reads(args) => reads::run(&args),
        Command::Restart(args) => restart::run(&args),
        Command::Retention(args) => retention::run(&args),
        Command::Overload(args) => overload::run(&args),
        Command::Attack(args) => attack::run(&args),
        Command::Attacker(args) => attacker::run(&args),
        Command::Server(args) => server::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}
