//! Results: a table for people, then the same as a line of JSON for programs.

use std::iter::zip;

use serde::Serialize;

/// The name of a column, and what it shows of a row.
pub(crate) type Column<R> = (&'static str, fn(&R) -> String);

pub(crate) fn print<R: Serialize>(columns: &[Column<R>], rows: &[R]) -> serde_json::Result<()> {
    let mut lines = vec![columns.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|(_, show)| show(row)).collect()));
    let width = |n: usize| lines.iter().map(|cells| cells[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for cells in &lines {
        // What a row is about stands at the left, numbers end at the right.
        print!("{:<1$}", cells[0], widths[0]);
        for (cell, width) in zip(cells, &widths).skip(1) {
            print!("  {cell:>width$}");
        }
        println!();
    }
    println!("{}", serde_json::to_string(rows)?);
    Ok(())
}

/// A number that is not there for every row.
pub(crate) fn optional(number: Option<&f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"))
}
