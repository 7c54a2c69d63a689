//! Every channel of the project is the one that is bounded, named and measured.

use std::path::{Path, PathBuf};

/// What makes a channel of another kind.
const OTHERS: [&str; 8] = [
    "mpsc::",
    "::mpsc;",
    "::mpsc}",
    "broadcast::channel",
    "unbounded_channel",
    "crossbeam_channel",
    "async_channel",
    "flume::",
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
        for line in code.filter(|line| OTHERS.iter().any(|other| line.contains(other))) {
            others.push(format!("{path}: {}", line.trim()));
        }
    }
    assert!(
        others.is_empty(),
        "use tasker_shared::resilience::channel:\n{}",
        others.join("\n")
    );
}
