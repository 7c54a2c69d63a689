//! What must hold of any bytes: a function each for templates, bodies of requests and results. The suite drives them
//! with seeds that a fixed random number mutates; `fuzz/` drives the same ones with libFuzzer.

mod mutate;
mod request;
mod result;
mod template;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use mutate::Mutator;
pub use request::request;
pub use result::result;
pub use template::template;

/// Something that takes any bytes and panics where it finds a fault.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Words of its language, which bytes changed at random hardly ever make.
    pub words: &'static [&'static str],
}

/// All of them.
pub const TARGETS: [Target; 3] = [
    Target {
        name: "template",
        run: template,
        words: template::WORDS,
    },
    Target {
        name: "request",
        run: request,
        words: request::WORDS,
    },
    Target {
        name: "result",
        run: result,
        words: result::WORDS,
    },
];

impl Target {
    /// Where to begin: the files of `fuzz/seeds`, and for templates those of the examples too.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let mut directories = vec![root().join("fuzz/seeds").join(self.name)];
        if self.name == "template" {
            let examples = entries(&root().join("examples"));
            directories.extend(examples.into_iter().map(|e| e.join("templates")));
        }
        let files = directories.iter().flat_map(|d| entries(d));
        let mut files: Vec<PathBuf> = files.filter(|file| file.is_file()).collect();
        files.sort();
        files.iter().map(|f| std::fs::read(f).unwrap()).collect()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package lies in the repository")
        .to_owned()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}
