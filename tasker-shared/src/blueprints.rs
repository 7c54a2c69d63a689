//! The templates a process works with, cached: they never change once stored. Server and worker look them
//! up by id; the lanes of a template's steps at a priority are cached with them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::db::pool::Pool;
use moka::sync::Cache;

use crate::db;
use crate::db::lanes::LaneKey;
use crate::plan::{Blueprint, Route};
use crate::template::Template;

/// Templates kept; the largest have ten thousand steps, most a handful.
const BLUEPRINTS: u64 = 2_000;
/// Routes kept: one for each template and priority in use.
const ROUTES: u64 = 10_000;

/// The cache. Clones share it.
#[derive(Debug, Clone)]
pub struct Blueprints {
    pool: Pool,
    environment: Arc<str>,
    by_id: Cache<i32, Arc<Blueprint>>,
    routes: Cache<(i32, i16), Route>,
}

impl Blueprints {
    /// An empty cache; templates get the overrides of `environment`.
    pub fn new(pool: Pool, environment: &str) -> Blueprints {
        Blueprints {
            pool,
            environment: environment.into(),
            by_id: Cache::new(BLUEPRINTS),
            routes: Cache::new(ROUTES),
        }
    }

    /// The blueprints with these ids; ids that are not stored are left out.
    pub async fn get(
        &self,
        ids: impl IntoIterator<Item = i32>,
    ) -> db::Result<HashMap<i32, Arc<Blueprint>>> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for id in ids {
            match self.by_id.get(&id) {
                Some(blueprint) => drop(found.insert(id, blueprint)),
                None => missing.push(id),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            for (id, definition, joined) in db::templates::get(&self.pool, &missing).await? {
                found.insert(id, self.keep(id, definition.0, joined));
            }
        }
        Ok(found)
    }

    /// Puts a stored template in the cache; `joined` where its join is stored, too.
    fn keep(&self, id: i32, template: Template, joined: bool) -> Arc<Blueprint> {
        let template = template.for_environment(&self.environment);
        let mut blueprint = Blueprint::new(id, template);
        blueprint.last = blueprint.last.filter(|_| !joined);
        let blueprint = Arc::new(blueprint);
        self.by_id.insert(id, blueprint.clone());
        blueprint
    }

    /// The routes of these templates and priorities, their lanes made where they are new. Templates that
    /// are not stored are left out.
    pub async fn routes(&self, keys: Vec<(i32, i16)>) -> db::Result<HashMap<(i32, i16), Route>> {
        let mut found = HashMap::new();
        for key in keys {
            if found.contains_key(&key) {
                continue;
            }
            if let Some(route) = self.routes.get(&key) {
                found.insert(key, route);
                continue;
            }
            if let Some(blueprint) = self.get([key.0]).await?.remove(&key.0) {
                let lanes = db::lanes::ensure(&self.pool, &lane_keys(&blueprint, key.1)).await?;
                let route = Route::new(blueprint, lanes.into());
                self.routes.insert(key, route.clone());
                found.insert(key, route);
            }
        }
        Ok(found)
    }

    /// Those of these routes that have been asked for before.
    pub fn known_routes(
        &self,
        keys: impl IntoIterator<Item = (i32, i16)>,
    ) -> HashMap<(i32, i16), Route> {
        let known = |key| Some((key, self.routes.get(&key)?));
        keys.into_iter().filter_map(known).collect()
    }
}

/// The lane of each step of a blueprint at a priority.
fn lane_keys(blueprint: &Blueprint, priority: i16) -> Vec<LaneKey> {
    let template = &blueprint.template;
    template
        .steps
        .iter()
        .map(|step| LaneKey {
            namespace: template.namespace_name.clone(),
            callable: step.handler.callable.clone(),
            priority,
            target: step.target(),
        })
        .collect()
}
