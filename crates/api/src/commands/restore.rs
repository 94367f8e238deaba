//! `hookkeeper restore`: a backup in the place of an empty database.

use std::path::PathBuf;

use adapters::sqlite;

use super::Error;
use crate::config::DatabaseArgs;

/// Put a backup in the place of a database that is not there or holds no messages.
///
/// The backup is checked first, as by `check`. All of it is restored or nothing. A database that
/// holds messages is never overwritten, and one that a server runs on is refused.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The backup
    src: PathBuf,
}

/// # Errors
/// The backup is damaged or of a newer version, or the database holds messages or is in use.
pub fn run(args: &Args) -> Result<(), Error> {
    let path = super::database_path(&args.database)?;
    let report = super::showing_pages(|progress| sqlite::restore(&args.src, &path, progress))?;
    super::print(&format_args!("{}: {report}", path.display()))
}
