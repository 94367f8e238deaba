//! `hookkeeper migrate`: brings the schema up to date and exits.

use adapters::sqlite;

use super::Error;
use crate::config::DatabaseArgs;

/// Create the database or bring its schema up to date, and exit.
///
/// `serve` does the same when it starts; run this to do it before.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// # Errors
/// The database can't be opened, or was made by a newer version.
pub fn run(args: &Args) -> Result<(), Error> {
    let path = super::database_path(&args.database)?;
    sqlite::migrate(&path)?;
    let (path, version) = (path.display(), sqlite::newest_schema());
    super::print(&format_args!("{path} has schema version {version}"))
}
