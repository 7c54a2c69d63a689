//! `tasker template check`, and finding the files of templates.

use std::path::{Path, PathBuf};

use clap::Args;
use tasker_shared::template::{self, Fault, Limits, Template};

use super::print_line;
use crate::failure::Failure;
use crate::{parse, process};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Files, and directories to look for *.yaml and *.yml in
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Print a JSON list of the errors, each with file, line, column and message
    #[arg(long)]
    pub(super) json: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let files = files(&self.paths)?;
        let mut faults = Vec::new();
        for file in &files {
            match parse_file(file) {
                Ok(template) if !self.json => print_line(&format!(
                    "{}: {}/{} {}, {} steps",
                    file.display(),
                    template.namespace_name,
                    template.name,
                    template.version,
                    template.steps.len()
                ))?,
                Ok(_) => {}
                Err(Unfit::Faults(found)) => faults.extend(found),
                Err(Unfit::Unreadable(failure)) => return Err(failure),
            }
        }
        if self.json {
            let text = serde_json::to_string(&faults)
                .map_err(|source| Failure::setup("cannot write the errors", source))?;
            print_line(&text)?;
        } else {
            for fault in &faults {
                eprintln!("{fault}");
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Failure::Silent),
        }
    }
}

/// Why a file is no template.
#[derive(Debug)]
pub(super) enum Unfit {
    Unreadable(Failure),
    Faults(Vec<Fault>),
}

/// The template in a file, held to the limits configured here.
pub(super) fn parse_file(file: &Path) -> Result<Template, Unfit> {
    let source = parse::read(file).map_err(Unfit::Unreadable)?;
    let configured = process::configuration(&[]).map_err(Unfit::Unreadable)?;
    let limits = Limits {
        max_steps_per_task: configured.config.limits.max_steps_per_task,
        ..Limits::default()
    };
    template::parse(&source, &file.display().to_string(), &limits).map_err(Unfit::Faults)
}

/// As a failure that says everything.
pub(super) fn refused(unfit: Unfit) -> Failure {
    match unfit {
        Unfit::Unreadable(failure) => failure,
        Unfit::Faults(faults) => {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Failure::Verdict(format!("the template has errors\n{}", lines.join("\n")))
        }
    }
}

/// The files given, and those below the directories given, in the order of their paths.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        below(path, &mut files)?;
        files[before..].sort();
        if files.len() == before {
            return Err(Failure::Usage(format!(
                "{} holds no *.yaml or *.yml file",
                path.display()
            )));
        }
    }
    Ok(files)
}

fn below(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable =
        |source| Failure::setup(format!("cannot read {}", directory.display()), source);
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
        // A link to a directory could lead back here.
        if kind.is_dir() {
            below(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml")
            && path.is_file()
        {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_walked_for_yaml() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir(root.join("deep")).unwrap();
        for name in ["b.yaml", "deep/a.yml", "notes.md", "c.yaml.bak"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        let found = files(&[root.to_owned()]).unwrap();
        assert_eq!(found, [root.join("b.yaml"), root.join("deep/a.yml")]);
        let named = files(&[root.join("notes.md")]).unwrap();
        assert_eq!(named, [root.join("notes.md")]);
    }

    #[test]
    fn a_directory_without_templates_is_wrong_usage() {
        let directory = tempfile::tempdir().unwrap();
        let failure = files(&[directory.path().to_owned()]).unwrap_err();
        assert_eq!(failure.status(), 2);
    }
}
