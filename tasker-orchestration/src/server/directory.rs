//! The directory of templates that a server stores at its start.

use std::path::Path;

use super::Error;
use crate::lifecycle::registry::Templates;

/// Stores every template file of a directory and those below it, in the order of their paths.
pub(super) async fn apply(templates: &Templates, directory: &Path) -> Result<(), Error> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::ReadTemplates { path, source }
    };
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).map_err(unreadable(&directory))? {
            let path = entry.map_err(unreadable(&directory))?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                files.push(path);
            }
        }
    }
    files.sort();
    for path in files {
        let source = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        let file = path.display().to_string();
        match templates.apply(&source, &file, |_| true).await {
            Ok(applied) if applied.created => {
                tracing::info!(
                    namespace = applied.namespace,
                    name = applied.name,
                    version = applied.version,
                    "template stored"
                );
            }
            Ok(_) => {}
            Err(source) => return Err(Error::ApplyTemplate { file, source }),
        }
    }
    Ok(())
}
