//! The documents of the repository lead somewhere, and the templates they show can be stored.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tasker_shared::template::{self, Limits};

/// A part of a document: text, or what stands between fences with the word behind the opening one.
enum Part {
    Text(String),
    Code { language: String, text: String },
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut checked = 0;
    let mut broken = Vec::new();
    for document in documents() {
        for link in links(&document) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            if !leads_somewhere(&document, &link) {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(checked > 20, "only {checked} links were found");
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn every_whole_template_in_a_document_can_be_stored() {
    let mut stored = 0;
    for document in documents() {
        for part in parts(&document) {
            let Part::Code { language, text } = part else {
                continue;
            };
            let is_whole = text.starts_with("name:") && text.contains("\nsteps:");
            if language != "yaml" || !is_whole {
                continue;
            }
            let file = document.display().to_string();
            if let Err(faults) = template::parse(&text, &file, &Limits::default()) {
                panic!("a template in {file}, lines counted from its first: {faults:#?}");
            }
            stored += 1;
        }
    }
    assert!(stored >= 3, "only {stored} templates were found");
}

/// Every Markdown file of the repository, without what builds and runs leave.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && !name.starts_with('.') {
                    directories.push(entry.path());
                }
            } else if name.ends_with(".md") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn parts(document: &Path) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut language = None;
    for line in fs::read_to_string(document).unwrap().lines() {
        if let Some(word) = line.trim_start().strip_prefix("```") {
            let text = std::mem::take(&mut text);
            language = match language.take() {
                Some(language) => {
                    parts.push(Part::Code { language, text });
                    None
                }
                None => {
                    parts.push(Part::Text(text));
                    Some(word.trim().to_owned())
                }
            };
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    assert!(language.is_none(), "{}: an open fence", document.display());
    parts.push(Part::Text(text));
    parts
}

/// What stands between `](` and `)`.
fn links(document: &Path) -> Vec<String> {
    let mut links = Vec::new();
    for part in parts(document) {
        let Part::Text(text) = part else { continue };
        for after in text.split("](").skip(1) {
            let (link, _) = after.split_once(')').unwrap();
            links.push(link.to_owned());
        }
    }
    links
}

fn leads_somewhere(document: &Path, link: &str) -> bool {
    let (path, heading) = match link.split_once('#') {
        Some((path, heading)) => (path, Some(heading)),
        None => (link, None),
    };
    let target = match path {
        "" => document.to_owned(),
        path => document.parent().unwrap().join(path),
    };
    target.exists() && heading.is_none_or(|heading| anchors(&target).contains(heading))
}

/// The headings as their links name them: lower case, hyphens for blanks, no other signs.
fn anchors(document: &Path) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for part in parts(document) {
        let Part::Text(text) = part else { continue };
        for line in text.lines().filter(|line| line.starts_with('#')) {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            anchors.insert(kept.collect::<String>().replace(' ', "-"));
        }
    }
    anchors
}
