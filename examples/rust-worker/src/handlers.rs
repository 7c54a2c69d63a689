//! The handlers: inputs from the context, work by `sales`, results for the steps after them.
//!
//! Each may run more than once for a step (a worker can die after the work and before the result), so each
//! does the same when it is repeated: the report is written aside and then put in its place.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tasker_worker::{StepContext, StepError};

use crate::sales::{self, Column, Total};

/// What a task is submitted with.
#[derive(Deserialize)]
struct Request {
    file: PathBuf,
}

/// What `read_sales` found.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checked {
    sales: usize,
}

/// `handler.initialization` of the steps that run `total_by`.
#[derive(Deserialize)]
struct TotalBy {
    column: Column,
}

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Written {
    report: PathBuf,
    bytes: usize,
}

/// Checks the whole file before anything is made of it.
pub(crate) async fn read_sales(context: StepContext) -> Result<Checked, StepError> {
    let Request { file } = context.input()?;
    let text = read(&file).await?;
    let sales = sales::parse(&text).map_err(|fault| malformed(&file, &fault))?;
    Ok(Checked { sales: sales.len() })
}

/// Adds the sales up by the column that the template names. Two steps share this handler.
pub(crate) async fn total_by(context: StepContext) -> Result<BTreeMap<String, Total>, StepError> {
    let Request { file } = context.input()?;
    let TotalBy { column } = context.config()?;
    let text = read(&file).await?;
    // Work that keeps a core busy goes to a thread of its own; `?` makes its failure a retryable one.
    let totals = tokio::task::spawn_blocking(move || {
        sales::parse(&text)
            .map(|sales| sales::totals(&sales, column))
            .map_err(|fault| malformed(&file, &fault))
    });
    totals.await?
}

/// Puts what the steps before it found into one file beside the sales.
pub(crate) async fn write_report(context: StepContext) -> Result<Written, StepError> {
    let Request { file } = context.input()?;
    let countries = context.dependency("by_country")?;
    let products = context.dependency("by_product")?;
    // Not a direct parent: fetched.
    let Checked { sales } = context.result("read_sales").await?;

    let text = sales::report(
        &file,
        sales,
        &[("country", &countries), ("product", &products)],
    );
    let report = file.with_extension("md");
    let aside = report.with_extension(format!("{}.part", context.step_uuid()));
    tokio::fs::write(&aside, &text).await?;
    tokio::fs::rename(&aside, &report).await?;
    Ok(Written {
        report,
        bytes: text.len(),
    })
}

/// A file that is missing will be missing at the next attempt as well; a disk may come back.
async fn read(file: &PathBuf) -> Result<String, StepError> {
    tokio::fs::read_to_string(file).await.map_err(|error| {
        let message = format!("{} cannot be read: {error}", file.display());
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => StepError::permanent(message),
            _ => StepError::retryable(message),
        }
    })
}

fn malformed(file: &std::path::Path, fault: &sales::Malformed) -> StepError {
    StepError::permanent(format!("{}:{}: {}", file.display(), fault.line, fault.why))
        .with_type("malformed_file")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
