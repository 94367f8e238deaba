//! `hookkeeper completions`: prints the script with which a shell completes the commands.

use std::io;

use clap_complete::Shell;

use super::Error;

/// Print the completion script of a shell.
///
/// `hookkeeper completions bash >/etc/bash_completion.d/hookkeeper`
#[derive(clap::Args)]
pub struct Args {
    /// Shell to print the script for
    shell: Shell,
}

/// # Errors
/// It can't be written.
pub fn run(args: &Args, mut command: clap::Command) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "hookkeeper", &mut script);
    io::Write::write_all(&mut io::stdout(), &script).map_err(Error::io("write the script"))
}
