//! Every channel of the project is the one that is bounded, named and measured. A `oneshot` and a `watch` are none in
//! this sense: they hold one value at most, so nothing can wait in them that would have to be bounded or counted.

use std::path::{Path, PathBuf};

/// The names of what makes a channel of another kind: modules and crates, however they are brought in.
const OTHERS: [&str; 14] = [
    "mpsc",
    "broadcast",
    "unbounded",
    "unbounded_channel",
    "sync_channel",
    "crossbeam",
    "crossbeam_channel",
    "crossbeam_queue",
    "async_channel",
    "async_broadcast",
    "flume",
    "kanal",
    "thingbuf",
    "postage",
];
/// The only file that may.
const OWN: &str = "tasker-shared/src/resilience/channel.rs";

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        match path.is_dir() {
            true if name == "tests" => {}
            true => sources(&path, found),
            false if name.ends_with(".rs") && name != "tests.rs" => found.push(path),
            false => {}
        }
    }
}

/// Whether a line of code names another kind of channel.
fn names_another(line: &str) -> bool {
    // What stands between quotes is text.
    let mut code = line.split('"').step_by(2);
    code.any(|code| {
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| OTHERS.contains(&word))
    })
}

#[test]
fn another_kind_of_channel_is_found_however_it_is_brought_in() {
    for line in [
        "use tokio::sync::mpsc;",
        "use tokio::sync::mpsc as x;",
        "use tokio::sync::{Notify, mpsc, oneshot};",
        "use std::sync::mpsc::*;",
        "let (tell, told) = tokio::sync::broadcast::channel(16);",
        "let tell = broadcast::Sender::new(16);",
        "use crossbeam::channel;",
        "let (tell, told) = kanal::bounded(1);",
        "let (tell, told) = futures::channel::mpsc::unbounded();",
    ] {
        assert!(names_another(line), "{line}");
    }
    for line in [
        "let (tell, told) = oneshot::channel();",
        "let (tell, told) = watch::channel(0);",
        "prom: \"mpsc_channel_usage_percent\",",
        "Broadcast = \"broadcast\",",
    ] {
        assert!(!names_another(line), "{line}");
    }
}

#[test]
fn nothing_waits_in_a_channel_that_is_not_ours() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for package in [
        "tasker-shared",
        "tasker-orchestration",
        "tasker-worker",
        "tasker-cli",
        "examples/rust-worker",
    ] {
        sources(&root.join(package).join("src"), &mut files);
    }
    assert!(files.len() > 100, "the sources have moved");
    let mut others = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().display().to_string();
        if path == OWN {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code.filter(|line| names_another(line)) {
            others.push(format!("{path}: {}", line.trim()));
        }
    }
    assert!(
        others.is_empty(),
        "use tasker_shared::resilience::channel:\n{}",
        others.join("\n")
    );
}
