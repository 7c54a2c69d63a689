//! The example order workflow as `tasker demo` brings it: its files, which are part of the program, its
//! template filled in for a directory and a payment provider, and an order to run it with.

pub(crate) mod payments;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::failure::Failure;

/// Where the example is, seen from here.
macro_rules! example {
    ($path:literal) => {
        include_str!(concat!("../../examples/order/", $path))
    };
}

const TEMPLATE: &str = example!("templates/process_order.yaml");
const STOCK: &str = example!("stock.csv");
const HANDLERS: [(&str, &str); 5] = [
    ("inputs.sh", example!("handlers/inputs.sh")),
    ("reserve_stock.sh", example!("handlers/reserve_stock.sh")),
    ("pack_items.sh", example!("handlers/pack_items.sh")),
    (
        "notify_customer.sh",
        example!("handlers/notify_customer.sh"),
    ),
    ("close_order.sh", example!("handlers/close_order.sh")),
];

pub(crate) const NAMESPACE: &str = "demo";
pub(crate) const NAME: &str = "process_order";
/// Where the template as it stands in the repository looks for the payment provider.
pub(crate) const PROVIDER: &str = "127.0.0.1:8099";
/// What the template in the repository says, to be filled in.
const VERSION_LINE: &str = "version: 1.0.0\n";
const DIRECTORY_VALUE: &str = "\".tasker/demo\"";
const STOCK_FILE: &str = "stock.csv";

/// What is ordered: number in stock, quantity, cents a piece.
const ITEMS: [(&str, u32, u32); 3] = [
    ("MUG-BLUE", 2, 1_250),
    ("TEE-M", 1, 1_900),
    ("PEN-BLACK", 5, 150),
];

/// The template with `directory` and `provider` filled in. What was filled in is part of its version, since
/// a version that was stored never changes: the same two make the same version.
pub(crate) fn template(directory: &Path, provider: SocketAddr) -> (String, String) {
    let directory = serde_json::Value::from(directory.display().to_string()).to_string();
    let filled_in = TEMPLATE
        .replace(DIRECTORY_VALUE, &directory)
        .replace(PROVIDER, &provider.to_string());
    let version = format!("1.0.0+{:016x}", fnv(&filled_in));
    let source = filled_in.replace(VERSION_LINE, &format!("version: {version}\n"));
    (source, version)
}

/// A context for the template.
pub(crate) fn order(order_id: &str) -> serde_json::Value {
    let items = ITEMS.map(|(sku, quantity, unit_cents)| {
        json!({ "sku": sku, "quantity": quantity, "unit_cents": unit_cents })
    });
    json!({
        "order_id": order_id,
        "customer": { "name": "Ada Lovelace", "email": "ada@example.org" },
        "currency": "EUR",
        "items": items,
    })
}

/// What [`prepare`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stock {
    Kept,
    /// There was none, or too little for an order.
    Filled,
}

/// Makes the directory that the handlers work in: the handlers anew, the stock only where it has run out.
pub(crate) fn prepare(directory: &Path) -> Result<Stock, Failure> {
    let unusable = |path: &Path, source: io::Error| {
        Failure::setup(
            format!(
                "cannot write {}: name another directory with --dir",
                path.display()
            ),
            source,
        )
    };
    let handlers = directory.join("handlers");
    std::fs::create_dir_all(&handlers).map_err(|source| unusable(&handlers, source))?;
    for (name, text) in HANDLERS {
        write(&handlers.join(name), text).map_err(|source| unusable(&handlers, source))?;
    }
    let stock = directory.join(STOCK_FILE);
    if std::fs::read_to_string(&stock).is_ok_and(|text| suffices(&text)) {
        return Ok(Stock::Kept);
    }
    write(&stock, STOCK).map_err(|source| unusable(&stock, source))?;
    Ok(Stock::Filled)
}

/// The number of pieces of each item that the stock has.
pub(crate) fn on_hand(stock: &str) -> Vec<(&str, u32)> {
    let rows = stock.lines().skip(1);
    rows.filter_map(|row| {
        let mut cells = row.split(',');
        let sku = cells.next()?;
        Some((sku, cells.nth(1)?.parse().ok()?))
    })
    .collect()
}

fn suffices(stock: &str) -> bool {
    let stock = on_hand(stock);
    ITEMS.iter().all(|(sku, quantity, _)| {
        let mut rows = stock.iter();
        rows.any(|(found, left)| found == sku && left >= quantity)
    })
}

/// Writes a file whole: a handler that reads it now reads the old one or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, path)
}

/// FNV-1a: it tells versions apart and need not resist anybody.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tasker_shared::template::{Limits, parse};

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn the_template_in_the_repository_is_valid_and_can_be_filled_in() {
        let template = parse(TEMPLATE, "process_order.yaml", &Limits::default()).unwrap();
        assert_eq!(
            (&*template.namespace_name, &*template.name),
            (NAMESPACE, NAME)
        );
        assert_eq!(TEMPLATE.matches(VERSION_LINE).count(), 1);
        assert_eq!(TEMPLATE.matches(DIRECTORY_VALUE).count(), 4);
        assert_eq!(TEMPLATE.matches(PROVIDER).count(), 2);
    }

    #[test]
    fn a_filled_in_template_is_valid_wherever_it_is_used() {
        for directory in [
            "/tmp/demo",
            "/home/o'neill/my \"shop\" \\ ü",
            "C:\\demo: #1",
        ] {
            let (source, version) = super::template(Path::new(directory), address(4711));
            let template = parse(&source, "demo", &Limits::default()).unwrap();
            assert_eq!(template.version.to_string(), version);
            let step = template.step("reserve_stock").unwrap();
            assert_eq!(step.handler.initialization["cwd"], directory);
            let step = template.step("charge_payment").unwrap();
            assert_eq!(step.target(), "127.0.0.1:4711");
        }
    }

    #[test]
    fn a_version_stands_for_directory_and_provider() {
        let version =
            |directory: &str, port| super::template(Path::new(directory), address(port)).1;
        assert_eq!(version("/a", 1), version("/a", 1));
        assert_ne!(version("/a", 1), version("/b", 1));
        assert_ne!(version("/a", 1), version("/a", 2));
    }

    #[test]
    fn the_order_satisfies_the_templates_schema() {
        let template = parse(TEMPLATE, "process_order.yaml", &Limits::default()).unwrap();
        let schema = template.input_schema.unwrap();
        let example: serde_json::Value = serde_json::from_str(example!("order.json")).unwrap();
        for order in [order("order-20250102-030405"), example] {
            for key in schema["required"].as_array().unwrap() {
                assert!(order.get(key.as_str().unwrap()).is_some(), "{key}");
            }
        }
    }

    #[test]
    fn stock_is_filled_only_when_it_has_run_out() {
        let directory = tempfile::tempdir().unwrap();
        let stock = directory.path().join(STOCK_FILE);
        assert_eq!(prepare(directory.path()).unwrap(), Stock::Filled);
        assert_eq!(prepare(directory.path()).unwrap(), Stock::Kept);
        let sold_out = STOCK.replace(",400", ",1");
        std::fs::write(&stock, &sold_out).unwrap();
        assert_eq!(prepare(directory.path()).unwrap(), Stock::Filled);
        assert_eq!(std::fs::read_to_string(&stock).unwrap(), STOCK);
        assert!(directory.path().join("handlers/close_order.sh").exists());
    }
}
