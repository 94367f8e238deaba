//! Commands of the binary, one file each.

pub mod backup;
pub mod check;
mod client;
pub mod completions;
pub mod delete;
pub mod export;
pub mod healthcheck;
pub mod man;
pub mod migrate;
pub mod restore;
pub mod selftest;
pub mod send;
pub mod serve;
pub mod sign;
pub mod version;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use adapters::digest::EmptySecret;
use adapters::signature::XSignature;
use adapters::sqlite::{BackupError, CheckError, DeleteError, ExportError, OpenError, Report, RestoreError};
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::config::{ConfigError, DatabaseArgs, SecretArgs, Settings};
use crate::transport::listener::Address;
use crate::transport::tls::TlsError;

/// Reason why a command exits with another code than 0.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has mistakes; nothing was done.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No secret to sign or verify with is set.
    #[error("neither WEBHOOK_SECRET nor WEBHOOK_SECRET_FILE is set: set one of them")]
    NoSecret(#[from] EmptySecret),
    /// Certificate and key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address can't be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address.
        addr: Address,
        /// Reason.
        source: io::Error,
    },
    /// The database can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Nothing was restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Not all was deleted.
    #[error(transparent)]
    Delete(#[from] DeleteError),
    /// The database can't be checked.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Not all messages were exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A file or stream can't be read or written.
    #[error("cannot {what}: {source}")]
    Io {
        /// Operation that was tried.
        what: String,
        /// Reason.
        source: io::Error,
    },
    /// The command did its work, and found a failure.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Prints the result of a command, its only text on standard output.
fn print(result: &dyn fmt::Display) -> Result<(), Error> {
    writeln!(io::stdout(), "{result}").map_err(Error::io("write the result"))
}

/// Returns a report as JSON.
fn report_json(report: &Report) -> serde_json::Value {
    json!({
        "ok": report.is_ok(),
        "messages": report.messages,
        "senders": report.senders,
        "schema_version": report.schema_version,
        "problems": report.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Returns the database of a command that has no other setting.
fn database_path(args: &DatabaseArgs) -> Result<PathBuf, Error> {
    let mut settings = Settings::default();
    let path = settings.database_path(args);
    Ok(settings.or_mistakes(path)?)
}

/// Returns the signer of a command that needs a secret.
fn signer(args: &SecretArgs) -> Result<XSignature, Error> {
    let mut settings = Settings::default();
    let secret = settings.webhook_secret(args);
    let secret = settings.or_mistakes(Some(secret))?.ok_or(EmptySecret)?;
    Ok(XSignature::new(secret.expose_secret())?)
}

/// Runs a deletion, and shows the number of deleted messages if standard error is a terminal.
fn showing_messages<T>(deletion: impl FnOnce(&mut dyn FnMut(u64)) -> T) -> T {
    let style = ProgressStyle::with_template("{pos} messages deleted");
    let bar = ProgressBar::no_length().with_style(style.expect("the template is valid"));
    let deleted = deletion(&mut |done| bar.set_position(done));
    bar.finish_and_clear();
    deleted
}

/// Runs a copy, and shows its progress in pages if standard error is a terminal.
fn showing_pages<T>(copy: impl FnOnce(&mut dyn FnMut(u64, u64)) -> T) -> T {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} pages, {eta} left");
    let bar = ProgressBar::no_length().with_style(style.expect("the template is valid"));
    let copied = copy(&mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    copied
}
