//! `hookkeeper man`: writes the manual, with the text of `--help`.

use std::path::PathBuf;

use super::Error;

/// Write the manual pages to a folder: hookkeeper.1, and one for each command.
///
/// `hookkeeper man /usr/local/share/man/man1`
#[derive(clap::Args)]
pub struct Args {
    /// Folder to write to, which must exist
    folder: PathBuf,
}

/// # Errors
/// They can't be written.
pub fn run(args: &Args, command: clap::Command) -> Result<(), Error> {
    let written = clap_mangen::generate_to(command, &args.folder);
    written.map_err(Error::io(format!("write manual pages to {}", args.folder.display())))
}
