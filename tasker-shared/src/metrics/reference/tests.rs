use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn all() -> Vec<&'static Definition> {
    let rooms = catalog::rooms().into_iter();
    rooms.flat_map(|(_, definitions)| definitions).collect()
}

/// A metric as the contract says it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promised {
    otel: String,
    prom: String,
    kind: String,
    unit: String,
    labels: Vec<String>,
    #[serde(default)]
    values: BTreeMap<String, Vec<String>>,
    #[serde(rename = "in")]
    recorded: String,
    when: String,
}

#[derive(Debug, Deserialize)]
struct Contract {
    metric: Vec<Promised>,
}

impl From<&Definition> for Promised {
    fn from(definition: &Definition) -> Promised {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let values = definition.values.iter();
        Promised {
            otel: definition.otel.to_owned(),
            prom: definition.prom.to_owned(),
            kind: definition.kind.as_str().to_owned(),
            unit: definition.unit.to_owned(),
            labels: texts(definition.labels),
            values: values
                .map(|(label, values)| ((*label).to_owned(), texts(values)))
                .collect(),
            recorded: definition.recorded.as_str().to_owned(),
            when: definition.when.to_owned(),
        }
    }
}

#[test]
fn the_catalog_is_the_contract() {
    let contract = fs::read_to_string(in_repository("tests/contract/metrics.toml")).unwrap();
    let contract: Contract = toml::from_str(&contract).unwrap();
    let by_name = |list: Vec<Promised>| -> BTreeMap<String, Promised> {
        let count = list.len();
        let named: BTreeMap<_, _> = list.into_iter().map(|m| (m.prom.clone(), m)).collect();
        assert_eq!(named.len(), count, "a name stands there twice");
        named
    };
    let promised = by_name(contract.metric);
    let own: BTreeSet<&str> = room("export").iter().map(|d| d.prom).collect();
    let recorded = all().into_iter().filter(|d| !own.contains(d.prom));
    let recorded = by_name(recorded.map(Promised::from).collect());
    assert_eq!(
        recorded.keys().collect::<Vec<_>>(),
        promised.keys().collect::<Vec<_>>()
    );
    for (name, metric) in &promised {
        assert_eq!(&recorded[name], metric);
    }
    assert!(own.iter().all(|name| name.starts_with("telemetry_")));
}

#[test]
fn every_room_has_its_section() {
    let rooms: Vec<&str> = catalog::rooms().into_iter().map(|(name, _)| name).collect();
    let sections: Vec<&str> = ROOMS.iter().map(|(name, _, _)| *name).collect();
    assert_eq!(sections, rooms);
}

#[test]
fn every_example_asks_for_its_metric() {
    for definition in all() {
        assert!(
            definition.example.contains(definition.prom),
            "{}: {}",
            definition.prom,
            definition.example
        );
    }
}

#[test]
fn every_label_is_explained_or_has_its_values_listed() {
    let explained: BTreeSet<&str> = OPEN_LABELS.iter().map(|(label, _)| *label).collect();
    let mut open = BTreeSet::new();
    for definition in all() {
        for (label, _) in definition.values {
            assert!(definition.labels.contains(label), "{}", definition.prom);
        }
        let is_closed = |label: &str| definition.values.iter().any(|(of, _)| *of == label);
        open.extend(definition.labels.iter().filter(|label| !is_closed(label)));
    }
    assert_eq!(open, explained);
}

#[test]
fn the_reference_is_the_one_in_the_repository() {
    let path = in_repository("docs/reference/metrics.md");
    if std::env::var_os("TASKER_UPDATE_DOCS").is_some() {
        fs::write(&path, reference()).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == reference(),
        "{} is stale: run `{UPDATE}`",
        path.display()
    );
}
