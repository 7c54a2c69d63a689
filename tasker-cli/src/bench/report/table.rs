//! The report as a table for people: what is known, a line each.

use serde_json::Value;

use super::super::disk::Flush;
use super::super::progress::grouped;
use super::super::quantiles::Quantiles;
use super::{Flushes, PerStep, Report, Share};
use crate::output::palette::{Ink, Palette};

/// Columns of the names in the table.
const LABEL_COLUMNS: usize = 18;

impl Report {
    /// The table.
    pub(crate) fn table(&self, palette: Palette) -> String {
        let mut table = Table {
            palette,
            text: self.title(palette),
        };
        let rate = |value: Option<f64>| value.map(|value| format!("{} /s", whole(value)));
        table.line("steps", rate(self.steps_per_s));
        table.line("tasks", rate(self.tasks_per_s));
        table.line("request to start", self.start_ms.map(milliseconds));
        table.line("request to final", self.latency_ms.map(milliseconds));
        for (label, text) in &self.lines {
            table.line(label, Some(text.clone()));
        }
        table.line("a step costs", self.per_step.map(costs));
        table.line(
            "CPU",
            self.cpu_s.map(|cpu| cpu.told(|s| format!("{s:.2} s"))),
        );
        let memory = self
            .rss_bytes
            .map(|rss| rss.told(|bytes| format!("{} MB", bytes / 1_000_000)));
        table.line("memory, peak", memory);
        table.line(
            "dead rows",
            self.dead_tuples.map(|rows| grouped(rows.unsigned_abs())),
        );
        table.line(
            "fdatasync",
            self.fdatasync_us.map(|flush| flush_told(flush, palette)),
        );
        table.line("PostgreSQL", Some(self.place()));
        table.line("checks", Some(self.verdict(palette)));
        table.text
    }

    fn title(&self, palette: Palette) -> String {
        let parameters = self.scenario.parameters.iter();
        let told =
            parameters
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| match value {
                    Value::String(text) => format!("{name} {text}"),
                    Value::Number(number) => match number.as_u64() {
                        Some(number) => format!("{name} {}", grouped(number)),
                        None => format!("{name} {}", number.as_f64().unwrap_or_default()),
                    },
                    other => format!("{name} {other}"),
                });
        let name = palette.paint(Ink::Strong, self.scenario.name);
        format!("{name}  {}\n\n", told.collect::<Vec<_>>().join(", "))
    }

    fn place(&self) -> String {
        let fsync = match self.postgres.settings.get("fsync").map(String::as_str) {
            Some("on") => "",
            _ => ", without fsync",
        };
        let build = if self.optimised {
            ""
        } else {
            "; a build without optimisation"
        };
        let cpu = self.machine.cpu.as_deref().unwrap_or("unknown processor");
        format!(
            "{}{fsync}, on {} cores ({cpu}){build}",
            self.postgres.version, self.machine.cores
        )
    }

    fn verdict(&self, palette: Palette) -> String {
        if self.faults.is_empty() {
            return palette.paint(
                Ink::Good,
                "✓ nothing lost, nothing twice, every result right",
            );
        }
        let faults = self
            .faults
            .iter()
            .map(|fault| palette.paint(Ink::Bad, &format!("✗ {fault}")));
        faults
            .collect::<Vec<_>>()
            .join(&format!("\n  {}", " ".repeat(LABEL_COLUMNS)))
    }
}

struct Table {
    palette: Palette,
    text: String,
}

impl Table {
    fn line(&mut self, label: &str, text: Option<String>) {
        if let Some(text) = text {
            let label = self
                .palette
                .paint(Ink::Dim, &format!("{label:<LABEL_COLUMNS$}"));
            self.text.push_str(&format!("  {label}{text}\n"));
        }
    }
}

impl<T: Copy> Share<T> {
    fn told(self, tell: impl Fn(T) -> String) -> String {
        let parts = [
            ("server", self.server),
            ("worker", self.worker),
            ("postgres", self.postgres),
            ("client", self.client),
        ];
        let told = parts.map(|(name, value)| Some(format!("{name} {}", tell(value?))));
        told.into_iter().flatten().collect::<Vec<_>>().join("   ")
    }
}

/// `12,345`, and small numbers with a place or two.
pub(crate) fn whole(value: f64) -> String {
    match value {
        value if value >= 100.0 => grouped(value.round() as u64),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

/// Milliseconds as people compare them.
pub(crate) fn milliseconds(found: Quantiles) -> String {
    format!(
        "p50 {:.2}   p95 {:.2}   p99 {:.2}   max {:.2} ms",
        found.p50, found.p95, found.p99, found.max
    )
}

fn costs(step: PerStep) -> String {
    let statements = step.statements.map_or_else(
        || "statements not counted (no pg_stat_statements)".to_owned(),
        |statements| format!("{statements:.3} statements"),
    );
    format!(
        "{statements}   {:.3} commits   {} B of WAL   {:.1} rows written",
        step.commits,
        whole(step.wal_bytes),
        step.row_writes
    )
}

fn flush_told(flushes: Flushes, palette: Palette) -> String {
    let Flush { p50, p95 } = flushes.worst;
    let text = format!("p50 {p50:.0}   p95 {p95:.0} µs");
    match flushes.is_noisy() {
        true => format!(
            "{text}   {}",
            palette.paint(Ink::Warning, "noisy: latencies say more of the disk")
        ),
        false => text,
    }
}
