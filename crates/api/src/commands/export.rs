//! `hookkeeper export`: prints all messages as lines of JSON, while a server writes.

use std::io::{self, BufWriter, Write};

use adapters::sqlite;
use domain::query::Filter;
use domain::text_query::TextQuery;
use domain::time::{ExactTime, TimeError};

use super::Error;
use crate::config::DatabaseArgs;
use crate::routes::messages::MessageBody;

/// Print the messages as NDJSON, one JSON object a line, in order of arrival.
///
/// Each line has the five fields of a message in GET /messages, and `hookkeeper send` can send it again. The messages
/// are one snapshot: all that were answered 200 before the command began. Only one message at a time is in memory.
/// A running server goes on; its write-ahead log grows until the end. To export a backup, give its path as
/// --database-url.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Only messages of this sender, as in +14155550100
    #[arg(long)]
    from: Option<String>,
    /// Only messages of this time or later, as in 2025-01-15T10:00:00Z or with an offset
    #[arg(long, value_parser = parse_since)]
    since: Option<ExactTime>,
    /// Only messages whose text contains this, in any case
    #[arg(long, allow_hyphen_values = true)]
    q: Option<String>,
}

fn parse_since(text: &str) -> Result<ExactTime, TimeError> {
    ExactTime::parse_offset(text)
}

/// # Errors
/// The database can't be read, or the messages can't be written.
pub fn run(args: &Args) -> Result<(), Error> {
    let path = super::database_path(&args.database)?;
    let is_some = |text: &&String| !text.is_empty();
    let filter = Filter {
        sender: args.from.as_ref().filter(is_some).cloned(),
        since: args.since.clone(),
        text: args.q.as_ref().filter(is_some).map(|q| TextQuery::new(q)),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    sqlite::export(&path, &filter, &mut |message| {
        serde_json::to_writer(&mut out, &MessageBody::new(message))?;
        out.write_all(b"\n")
    })?;
    out.flush().map_err(Error::io("write the messages"))
}
