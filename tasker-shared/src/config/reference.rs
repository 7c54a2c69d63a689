//! The generated documents: the reference of all keys and the base file with their defaults.

use super::keys::Config;
use super::setting::{Fact, Reader};

const UPDATE: &str = "TASKER_UPDATE_DOCS=1 cargo test -p tasker-shared config";

/// `docs/reference/configuration.md`: every key with type, default, range and meaning.
#[must_use]
pub fn reference() -> String {
    let mut text = format!(
        "<!-- Generated from tasker-shared/src/config/keys.rs by `{UPDATE}`. -->\n\
        # Configuration\n\n\
        Later layers win over earlier ones, key by key:\n\n\
        1. the defaults below, which are in the program;\n\
        2. `config/tasker/base/*.toml`, in the order of their names;\n\
        3. `config/tasker/environments/<TASKER_ENV>/*.toml`; `TASKER_ENV` is `development` where it is not set;\n\
        4. environment variables: `TASKER__`, then section and key in capitals with two underscores between,\n   \
           as in `TASKER__WORKER__CONCURRENCY`; lists are separated by commas,\n   \
           and an empty variable counts as none;\n\
        5. `DATABASE_URL`, for `database.url`;\n\
        6. flags of the command line.\n\n\
        `TASKER_CONFIG_DIR` names another directory than `config/tasker`. No file has to be there. Unknown keys and\n\
        values out of range are errors that name the file or variable and the key. `tasker config show` prints what is\n\
        in force and where each value came from.\n"
    );
    for section in sections(&facts()) {
        text.push_str(&format!(
            "\n## [{}]\n\n{}\n\n",
            section.name,
            joined(section.doc)
        ));
        text.push_str("| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n");
        for fact in section.facts {
            let default = match &fact.entry.value {
                serde_json::Value::Null => "none".to_owned(),
                value => format!("`{value}`"),
            };
            let key = fact.entry.key.rsplit('.').next().unwrap_or_default();
            let (kind, rule, doc) = (fact.kind, &fact.rule, joined(fact.doc));
            text.push_str(&format!(
                "| `{key}` | {kind} | {default} | {rule} | {doc} |\n"
            ));
        }
    }
    text
}

/// `config/tasker/base/tasker.toml`: every key at its default, with its meaning.
#[must_use]
pub fn base_file() -> String {
    let mut text = format!(
        "# Every key at its default. Change a value here, or in environments/<TASKER_ENV>/, or by TASKER__SECTION__KEY.\n\
        # Generated from tasker-shared/src/config/keys.rs by `{UPDATE}`.\n"
    );
    for section in sections(&facts()) {
        text.push_str(&format!(
            "\n# {}\n[{}]\n",
            joined(section.doc),
            section.name
        ));
        for fact in section.facts {
            let rule = if fact.rule.is_empty() {
                String::new()
            } else {
                format!(" ({})", fact.rule)
            };
            text.push_str(&format!("# {}{rule}\n", joined(fact.doc)));
            let key = fact.entry.key.rsplit('.').next().unwrap_or_default();
            match &fact.entry.value {
                serde_json::Value::Null => text.push_str(&format!("# {key} =\n")),
                value => text.push_str(&format!("{key} = {value}\n")),
            }
        }
    }
    text
}

struct Section<'a> {
    name: &'a str,
    doc: &'static [&'static str],
    facts: &'a [Fact],
}

fn facts() -> Vec<Fact> {
    let mut reader = Reader::default();
    Config::read(&mut reader);
    reader.facts
}

/// The keys of each section stand together, inner sections behind their outer one.
fn sections(facts: &[Fact]) -> Vec<Section<'_>> {
    let section = |fact: &Fact| fact.entry.key.rfind('.').unwrap_or_default();
    let groups = facts.chunk_by(|left, right| {
        left.entry.key[..section(left)] == right.entry.key[..section(right)]
    });
    let sections = groups.map(|facts| Section {
        name: &facts[0].entry.key[..section(&facts[0])],
        doc: facts[0].section_doc,
        facts,
    });
    sections.collect()
}

/// The lines of a documentation comment as one.
fn joined(lines: &[&str]) -> String {
    lines
        .iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join(" ")
}
