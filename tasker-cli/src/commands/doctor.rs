//! `tasker doctor`: prints what [`crate::doctor`] finds. Exit status 1 where something is broken, 2 where the database
//! or a usable configuration is not there.

use clap::Args;
use serde_json::json;

use super::{print, print_line};
use crate::cli::Remote;
use crate::doctor::{self, Finding, Report, Status};
use crate::failure::Failure;
use crate::output::palette::{Ink, Palette};
use crate::process;

#[derive(Debug, Args)]
#[command(
    after_help = "Looks with the configuration and the database of this shell: run it where servers and workers run."
)]
pub(crate) struct Doctor {
    #[command(flatten)]
    remote: Remote,
}

impl Doctor {
    pub(crate) fn wants_json(&self) -> bool {
        self.remote.json
    }

    pub(crate) async fn run(self) -> Result<(), Failure> {
        let loaded = process::configuration(&[])?;
        let report = doctor::examine(&loaded, &self.remote).await;
        match self.remote.json {
            true => print_line(&json(&report)?)?,
            false => print(&told(&report.findings, Palette::of_stdout()))?,
        }
        let is_broken = report.findings.iter().any(|f| f.status == Status::Fail);
        match (report.unreachable, is_broken) {
            // What is wrong has been said.
            (true, _) => Err(Failure::Unusable),
            (false, true) => Err(Failure::Silent),
            (false, false) => Ok(()),
        }
    }
}

fn json(report: &Report) -> Result<String, Failure> {
    let worst = report
        .findings
        .iter()
        .map(|f| f.status)
        .max_by_key(|status| *status as u8);
    serde_json::to_string_pretty(&json!({ "status": worst, "checks": report.findings }))
        .map_err(|source| Failure::setup("cannot write the findings", source))
}

fn told(findings: &[Finding], palette: Palette) -> String {
    let width = findings
        .iter()
        .map(|f| f.check.len())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let (sign, ink) = match finding.status {
            Status::Ok => ("✓ ok  ", Ink::Good),
            Status::Warn => ("! warn", Ink::Warning),
            Status::Fail => ("✗ fail", Ink::Bad),
        };
        let sign = palette.paint(ink, sign);
        text.push_str(&format!(
            "{sign}  {:width$}  {}\n",
            finding.check, finding.message
        ));
        if !finding.mend.is_empty() {
            let indent = 8 + width + 2;
            text.push_str(&format!("{:indent$}→ {}\n", "", finding.mend));
        }
    }
    text
}
