//! What no source of the workspace may hold.

use std::path::{Path, PathBuf};

/// Where unsafe code may be: bindings to other languages cannot do without.
const BINDINGS: &str = "bindings";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The files below a directory with this ending, without what builds and tools leave behind.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != BINDINGS {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// Where a line holds unsafe code, or allows it.
fn holds_unsafe(line: &str) -> bool {
    let word = concat!("un", "safe");
    let code = line.split("//").next().unwrap_or_default();
    let begins = ["{", "fn ", "impl ", "impl<", "trait ", "extern ", "mod "];
    let mut after = code.split(word).skip(1);
    after.any(|rest| {
        rest.starts_with("_code)") || begins.iter().any(|b| rest.trim_start().starts_with(b))
    })
}

#[test]
fn no_source_holds_unsafe_code() {
    let sources = files(root(), ".rs");
    assert!(sources.len() > 100, "only {} sources found", sources.len());
    for file in sources {
        let source = std::fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(source.lines()) {
            assert!(!holds_unsafe(line), "{}:{number}: {line}", file.display());
        }
    }
}

#[test]
fn every_package_takes_over_the_lints_that_forbid_it() {
    let read =
        |file: &Path| -> toml::Table { std::fs::read_to_string(file).unwrap().parse().unwrap() };
    let workspace = read(&root().join("Cargo.toml"));
    let forbidden = &workspace["workspace"]["lints"]["rust"]["unsafe_code"];
    assert_eq!(forbidden.as_str(), Some("forbid"));
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let package = read(&root().join(member.as_str().unwrap()).join("Cargo.toml"));
        let taken = package.get("lints").and_then(|l| l.get("workspace"));
        assert_eq!(taken.and_then(toml::Value::as_bool), Some(true), "{member}");
    }
}

#[test]
fn unsafe_code_is_told_from_words_about_it() {
    let word = concat!("un", "safe");
    let code = [
        " { x }",
        " fn a() {}",
        "_code)]",
        " impl Send for A {}",
        " extern \"C\" {",
    ];
    assert!(
        code.iter()
            .all(|rest| holds_unsafe(&format!("a {word}{rest}")))
    );
    let others = ["// of {word} { }", "an {word} default", "{word}ty"];
    assert!(
        !others
            .iter()
            .any(|line| holds_unsafe(&line.replace("{word}", word)))
    );
}
