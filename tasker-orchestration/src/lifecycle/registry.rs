//! The stored templates by name and version: adding them, and finding the one that a request means.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use semver::Version;
use tasker_shared::blueprints::Blueprints;
use tasker_shared::db::pool::{Pool, Target};
use tasker_shared::db::{self, Transaction, templates};
use tasker_shared::plan::Blueprint;
use tasker_shared::template::{self, Fault, Limits, Template};

/// For how long the newest version of a template is taken as still the newest.
const NEWEST_FOR: Duration = Duration::from_secs(1);
/// Names whose versions are kept.
const NAMES: u64 = 10_000;

/// Namespace, name and, where the request has one, version.
type Name = (String, String, Option<String>);

/// The registry. Clones share it.
#[derive(Debug, Clone)]
pub struct Templates {
    target: Target,
    pool: Pool,
    limits: Limits,
    blueprints: Blueprints,
    exact: Cache<Name, Arc<Blueprint>>,
    newest: Cache<Name, Arc<Blueprint>>,
}

/// A template that was stored, or was there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub namespace: String,
    pub name: String,
    pub version: String,
    pub step_count: usize,
    /// `false` where the very same template was stored before.
    pub created: bool,
}

/// Why a template was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the template cannot be stored as it is: the faults name the places")]
    Invalid(Vec<Fault>),
    #[error(
        "{namespace}/{name} {version} is stored already with other contents; give the changed template a new version"
    )]
    Conflict {
        namespace: String,
        name: String,
        version: String,
    },
    #[error("whoever sends it does not reach the namespace {0:?}")]
    OutsideNamespace(String),
    #[error(transparent)]
    Database(#[from] db::Error),
}

impl Templates {
    /// The registry of a database.
    pub fn new(
        target: Target,
        pool: Pool,
        max_steps_per_task: usize,
        blueprints: Blueprints,
    ) -> Templates {
        Templates {
            target,
            pool,
            limits: Limits {
                max_steps_per_task,
                refuse_unhonoured: true,
            },
            blueprints,
            exact: Cache::new(NAMES),
            newest: Cache::builder()
                .max_capacity(NAMES)
                .time_to_live(NEWEST_FOR)
                .build(),
        }
    }

    /// Parses and stores a template, where it is of a namespace that `may` be changed. `file` names it in faults.
    pub async fn apply(
        &self,
        source: &str,
        file: &str,
        may: impl Fn(&str) -> bool,
    ) -> Result<Applied, ApplyError> {
        let template = template::parse(source, file, &self.limits).map_err(ApplyError::Invalid)?;
        if !may(&template.namespace_name) {
            return Err(ApplyError::OutsideNamespace(template.namespace_name));
        }
        let created = self.store(&template, source).await?;
        if !created {
            self.compare(&template).await?;
        }
        self.newest
            .invalidate(&(template.namespace_name.clone(), template.name.clone(), None));
        Ok(Applied {
            version: template.version.to_string(),
            step_count: template.steps.len(),
            namespace: template.namespace_name,
            name: template.name,
            created,
        })
    }

    async fn store(&self, template: &Template, source: &str) -> db::Result<bool> {
        let mut connection = self.target.connect().await?;
        let mut transaction = Transaction::begin(&mut connection, "insert_template").await?;
        let stored = templates::insert(&mut transaction, template, source).await?;
        transaction.commit().await?;
        Ok(stored.is_some())
    }

    /// Refuses a template whose version is taken by another.
    async fn compare(&self, template: &Template) -> Result<(), ApplyError> {
        let version = template.version.to_string();
        let stored = templates::find(
            &self.pool,
            &template.namespace_name,
            &template.name,
            &version,
        )
        .await?;
        if stored.is_some_and(|stored| stored.definition.0 == *template) {
            return Ok(());
        }
        Err(ApplyError::Conflict {
            namespace: template.namespace_name.clone(),
            name: template.name.clone(),
            version,
        })
    }

    /// The template that a request means: of that version, or of the highest, pre-releases only where there
    /// is nothing else.
    pub async fn find(
        &self,
        namespace: &str,
        name: &str,
        version: Option<&str>,
    ) -> db::Result<Option<Arc<Blueprint>>> {
        let key = (
            namespace.to_owned(),
            name.to_owned(),
            version.map(str::to_owned),
        );
        let cache = if version.is_some() {
            &self.exact
        } else {
            &self.newest
        };
        if let Some(blueprint) = cache.get(&key) {
            return Ok(Some(blueprint));
        }
        let versions = templates::versions(&self.pool, namespace, name).await?;
        let id = match version {
            Some(version) => versions
                .iter()
                .find(|(_, v)| v == version)
                .map(|(id, _)| *id),
            None => highest(&versions),
        };
        let Some(id) = id else {
            return Ok(None);
        };
        let blueprint = self.blueprints.get([id]).await?.remove(&id);
        if let Some(blueprint) = &blueprint {
            cache.insert(key, blueprint.clone());
        }
        Ok(blueprint)
    }
}

/// The id of the highest version, releases before pre-releases.
fn highest(versions: &[(i32, String)]) -> Option<i32> {
    versions
        .iter()
        .filter_map(|(id, version)| Some((Version::parse(version).ok()?, *id)))
        .max_by(|(a, _), (b, _)| (a.pre.is_empty(), a).cmp(&(b.pre.is_empty(), b)))
        .map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_is_by_semver_and_a_release_where_there_is_one() {
        let cases = [
            (vec!["1.0.0", "1.10.0", "1.9.0"], Some(1)),
            (vec!["1.0.0", "2.0.0-rc.1"], Some(0)),
            (vec!["2.0.0-rc.1", "2.0.0-rc.2"], Some(1)),
            (vec![], None),
        ];
        for (versions, expected) in cases {
            let versions: Vec<_> = (0..)
                .zip(versions.iter().map(|v| (*v).to_owned()))
                .collect();
            assert_eq!(highest(&versions), expected, "{versions:?}");
        }
    }
}
