//! The schema: its migrations, its version, and whether a database is ours.

use std::sync::LazyLock;

use refinery::{Migration, Runner};
use rusqlite::Connection;

mod embedded {
    refinery::embed_migrations!("../../migrations/sqlite");
}

/// Returns the newest schema version that this program knows: the number of the last file in `migrations/sqlite`.
#[must_use]
pub fn newest_schema() -> i32 {
    static NEWEST: LazyLock<i32> = LazyLock::new(|| {
        let runner = embedded::migrations::runner();
        let versions = runner.get_migrations().iter().map(Migration::version);
        versions.max().expect("there are some migrations")
    });
    *NEWEST
}

/// Name of the first file there.
const FIRST_MIGRATION: &str = "inbox";

/// Applies all migrations that are missing, in one transaction with the record of them.
pub(crate) fn migrate(db: &mut Connection) -> Result<(), refinery::Error> {
    runner(embedded::migrations::runner().get_migrations()).run(db).map(drop)
}

fn runner(migrations: &[Migration]) -> Runner {
    Runner::new(migrations).set_grouped(true)
}

/// Returns the version of the last migration that was applied.
pub(crate) fn version(db: &Connection) -> rusqlite::Result<i32> {
    let migrated = db.table_exists(None, "refinery_schema_history")?;
    if !migrated {
        return Ok(0);
    }
    db.query_row("SELECT coalesce(max(version), 0) FROM refinery_schema_history", [], |row| row.get(0))
}

/// Owner of a database.
pub(crate) enum Owner {
    /// This program, or nobody yet; with the schema version.
    Hookkeeper(i32),
    /// Another program.
    Another,
}

/// Returns the owner of a database. Ours has our first migration, which never changes: other programs that use the same
/// library for migrations have another one. A database without migrations must have nothing at all.
pub(crate) fn owner(db: &Connection) -> rusqlite::Result<Owner> {
    let version = version(db)?;
    let is_ours = if version == 0 {
        let application_id: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
        // The library's own table comes first, in a transaction of its own.
        let others = "SELECT 1 FROM sqlite_schema WHERE tbl_name <> 'refinery_schema_history'";
        application_id == 0 && !db.prepare(others)?.exists([])?
    } else {
        let first = "SELECT 1 FROM refinery_schema_history WHERE version = 1 AND name = ?1";
        db.prepare(first)?.exists([FIRST_MIGRATION])?
    };
    Ok(if is_ours { Owner::Hookkeeper(version) } else { Owner::Another })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_told_by_the_first_migration() {
        let runner = embedded::migrations::runner();
        let first = runner.get_migrations().iter().find(|migration| migration.version() == 1);
        assert_eq!(first.map(Migration::name), Some(FIRST_MIGRATION));
        let n_migrations = runner.get_migrations().len();
        assert_eq!(usize::try_from(newest_schema()).unwrap(), n_migrations, "they are numbered one by one");
    }
}
