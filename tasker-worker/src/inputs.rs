//! The inputs of a claimed step: its context, its `initialization`, and the results of its parents, which
//! come with the claim or, where there are many, are read when the step runs. Results of further ancestors
//! are read when a handler asks.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use tasker_shared::db::claim::{self, Claimed};
use tasker_shared::db::pool::Pool;
use tasker_shared::ids;
use tasker_shared::plan::Blueprint;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{AncestorError, Ancestors, Inputs, Limits, StepContext, StepError};

/// What a step is given besides its context: the results of its parents by number, as JSON text, and where
/// those of further ancestors are read.
#[derive(Debug)]
pub(crate) struct Results {
    parents: HashMap<i32, Arc<str>>,
    pool: Pool,
    limits: Limits,
}

impl Results {
    /// The results of the parents; an error where together with the context they are larger than
    /// `limits.max_input_bytes`.
    pub(crate) async fn of(
        step: &Claimed,
        blueprint: &Blueprint,
        pool: &Pool,
        limits: Limits,
    ) -> Result<Results, StepError> {
        let limit_bytes = limits.max_input_bytes;
        let parents = blueprint.graph.parents(step.step_no);
        let left = limit_bytes.saturating_sub(step.context.len());
        let rows: Vec<(i32, Option<String>)> = if parents.len() > claim::PARENTS_WITH_CLAIM as usize
        {
            Box::pin(read(pool, step.task_uuid, parents, left)).await?
        } else {
            let results = step.results.iter().flatten().cloned();
            parents.iter().copied().zip(results).collect()
        };
        let bytes: usize = rows
            .iter()
            .map(|(_, result)| result.as_ref().map_or(0, String::len))
            .sum();
        if bytes > left {
            return Err(too_large(bytes + step.context.len(), limit_bytes));
        }
        let result = |(number, text): (i32, Option<String>)| {
            (number, text.as_deref().unwrap_or("null").into())
        };
        Ok(Results {
            parents: rows.into_iter().map(result).collect(),
            pool: pool.clone(),
            limits,
        })
    }

    /// What the handler of a step is given.
    pub(crate) fn into_context(
        self,
        step: &Claimed,
        blueprint: &Arc<Blueprint>,
        deadline: Instant,
        cancellation: CancellationToken,
    ) -> StepContext {
        let graph = &blueprint.graph;
        let dependencies = graph
            .parents(step.step_no)
            .iter()
            .map(|number| {
                let result = self.parents.get(number).cloned();
                (
                    graph.name(*number).into(),
                    result.unwrap_or_else(|| "null".into()),
                )
            })
            .collect();
        let definition = blueprint.step(step.step_no);
        let initialization = definition.map_or_else(
            || "{}".to_owned(),
            |d| serde_json::Value::Object(d.handler.initialization.clone()).to_string(),
        );
        StepContext::new(Inputs {
            task_uuid: step.task_uuid,
            step_uuid: ids::step_uuid(step.task_uuid, step.step_no),
            correlation_id: step.correlation_id,
            delivery: step.attempt,
            traced: step.traced,
            tracestate: step.tracestate.as_deref().map(Arc::from),
            namespace: blueprint.template.namespace_name.as_str().into(),
            step_name: graph.name(step.step_no).into(),
            attempt: u32::try_from(step.tries).unwrap_or(0) + 1,
            deadline,
            cancellation,
            context: step.context.as_str().into(),
            initialization: initialization.into(),
            dependencies,
            ancestors: Arc::new(FromDatabase {
                pool: self.pool,
                blueprint: Arc::clone(blueprint),
                limit_bytes: self.limits.max_input_bytes,
            }),
            limits: self.limits,
        })
    }
}

async fn read(
    pool: &Pool,
    task_uuid: Uuid,
    numbers: &[i32],
    limit_bytes: usize,
) -> Result<Vec<(i32, Option<String>)>, StepError> {
    let unavailable = |error: tasker_shared::db::Error| {
        StepError::retryable("the results of the step's parents could not be read")
            .with_type("database_error")
            .with_source(&error)
    };
    claim::results(pool, task_uuid, numbers, limit_bytes)
        .await
        .map_err(unavailable)?
        .map_err(|bytes| too_large(bytes, limit_bytes))
}

fn too_large(bytes: usize, limit_bytes: usize) -> StepError {
    StepError::permanent(format!(
        "context and parents' results have {bytes} bytes together, limits.max_input_bytes allows {limit_bytes}"
    ))
    .with_type("input_too_large")
}

/// Reads results of ancestors behind the parents.
struct FromDatabase {
    pool: Pool,
    blueprint: Arc<Blueprint>,
    limit_bytes: usize,
}

impl Ancestors for FromDatabase {
    fn results<'a>(
        &'a self,
        step: Uuid,
        names: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<Arc<str>>, AncestorError>> {
        Box::pin(async move {
            let (task_uuid, step_no) = ids::split_step_uuid(step);
            let numbers = names
                .iter()
                .map(|name| self.ancestor(step_no, name))
                .collect::<Result<Vec<i32>, _>>()?;
            let unavailable = |error| AncestorError::Unavailable(Box::new(error));
            let rows = claim::results(&self.pool, task_uuid, &numbers, self.limit_bytes)
                .await
                .map_err(unavailable)?
                .map_err(|bytes| AncestorError::TooLarge {
                    bytes,
                    limit_bytes: self.limit_bytes,
                })?;
            let by_number: HashMap<i32, Arc<str>> = rows
                .into_iter()
                .map(|(number, text)| (number, text.as_deref().unwrap_or("null").into()))
                .collect();
            let result = |number| {
                by_number
                    .get(number)
                    .cloned()
                    .unwrap_or_else(|| "null".into())
            };
            Ok(numbers.iter().map(result).collect())
        })
    }
}

impl FromDatabase {
    /// The number of the step of that name, where it comes before `step_no` in the graph.
    fn ancestor(&self, step_no: i32, name: &str) -> Result<i32, AncestorError> {
        let graph = &self.blueprint.graph;
        let wanted = graph.number_of(name);
        let mut above = vec![step_no];
        let mut seen = std::collections::HashSet::new();
        while let Some(number) = above.pop() {
            for &parent in graph.parents(number) {
                if wanted == Some(parent) {
                    return Ok(parent);
                }
                if seen.insert(parent) {
                    above.push(parent);
                }
            }
        }
        Err(AncestorError::NotAnAncestor(name.to_owned()))
    }
}
