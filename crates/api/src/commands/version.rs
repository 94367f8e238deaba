//! `hookkeeper version`: prints the version of this build.

use adapters::sqlite::newest_schema;
use serde_json::json;

use super::Error;

/// Print the version, and the commit it was built from.
#[derive(clap::Args)]
pub struct Args {
    /// Print the version as JSON, with the version of the database's schema
    #[arg(long)]
    json: bool,
}

/// # Errors
/// It can't be written.
pub fn run(args: &Args) -> Result<(), Error> {
    if args.json {
        return super::print(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("HOOKKEEPER_COMMIT"),
            "schema_version": newest_schema(),
        }));
    }
    super::print(&format_args!("hookkeeper {}", crate::VERSION))
}
