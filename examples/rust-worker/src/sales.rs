//! A file of sales: `day,country,product,units,price_cents`, one sale a line. Nothing here knows of steps.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What a file's first line has to be.
pub(crate) const HEADER: &str = "day,country,product,units,price_cents";

/// One sale.
pub(crate) struct Sale<'a> {
    pub(crate) country: &'a str,
    pub(crate) product: &'a str,
    pub(crate) units: u64,
    pub(crate) price_cents: u64,
}

/// By what sales are added up.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Column {
    Country,
    Product,
}

/// What one country or product brought.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Total {
    pub(crate) units: u64,
    pub(crate) cents: u64,
}

/// A file that holds something else, with the line at fault.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) line: usize,
    pub(crate) why: String,
}

/// The sales of a file's text.
pub(crate) fn parse(text: &str) -> Result<Vec<Sale<'_>>, Malformed> {
    let mut lines = text.lines().zip(1..);
    let fault = |line, why: String| Malformed { line, why };
    if lines.next().is_none_or(|(header, _)| header != HEADER) {
        return Err(fault(1, format!("the header has to be `{HEADER}`")));
    }
    lines
        .map(|(text, line)| sale(text).map_err(|why| fault(line, why)))
        .collect()
}

fn sale(line: &str) -> Result<Sale<'_>, String> {
    let fields: Vec<&str> = line.split(',').collect();
    let [_day, country, product, units, price_cents] = fields[..] else {
        return Err(format!("{} fields instead of 5", fields.len()));
    };
    let number = |text: &str| {
        text.parse()
            .map_err(|_| format!("`{text}` is no whole number"))
    };
    Ok(Sale {
        country,
        product,
        units: number(units)?,
        price_cents: number(price_cents)?,
    })
}

/// What each country or product brought.
pub(crate) fn totals(sales: &[Sale<'_>], column: Column) -> BTreeMap<String, Total> {
    let mut totals: BTreeMap<String, Total> = BTreeMap::new();
    for sale in sales {
        let key = match column {
            Column::Country => sale.country,
            Column::Product => sale.product,
        };
        let total = totals.entry(key.to_owned()).or_default();
        total.units += sale.units;
        total.cents += sale.units * sale.price_cents;
    }
    totals
}

/// The report, as Markdown.
pub(crate) fn report(
    file: &Path,
    sales: usize,
    parts: &[(&str, &BTreeMap<String, Total>)],
) -> String {
    let mut text = format!("# {}\n\n{sales} sales\n", file.display());
    for (heading, totals) in parts {
        text += &format!("\n| {heading} | units | amount |\n|---|---:|---:|\n");
        for (key, Total { units, cents }) in *totals {
            text += &format!("| {key} | {units} | {}.{:02} |\n", cents / 100, cents % 100);
        }
    }
    text
}
