//! `hookkeeper restore`: restores a backup where there is no message yet.

use std::path::PathBuf;

use adapters::sqlite;

use super::Error;
use crate::config::DatabaseArgs;

/// Restore a backup where there is no database, or one without messages.
///
/// The backup is checked first, as by `check`. It is restored whole or not at all. A database that holds messages is
/// never overwritten, and one that a server uses is refused.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Backup to restore
    src: PathBuf,
}

/// # Errors
/// The backup is damaged or of a newer version, or the database holds messages or is in use.
pub fn run(args: &Args) -> Result<(), Error> {
    let path = super::database_path(&args.database)?;
    let report = super::showing_pages(|progress| sqlite::restore(&args.src, &path, progress))?;
    super::print(&format_args!("{}: {report}", path.display()))
}
