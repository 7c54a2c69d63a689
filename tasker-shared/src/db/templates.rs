//! Stored templates and the part of their graphs that statements join on.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::pool::Pool;
use super::{Error, Result, statements};
use crate::graph::Graph;
use crate::template::Template;

/// A template as stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Stored {
    pub template_id: i32,
    pub namespace: String,
    pub name: String,
    pub version: String,
    pub definition: Json<Template>,
    pub source: String,
    pub created_at: DateTime<Utc>,
}

/// A template without its definition.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Listed {
    pub template_id: i32,
    pub namespace: String,
    pub name: String,
    pub version: String,
    pub description: Option<String>,
    pub step_count: i32,
}

statements! {
    INSERT, "insert_template" =
        "INSERT INTO tasker.templates (namespace, name, version, definition, source, step_count)
         VALUES ($1, $2, $3, $4::text::json, $5, $6)
         ON CONFLICT DO NOTHING RETURNING template_id";
    INSERT_STEPS, "insert_template_steps" =
        // parents comes as one flat array, each step's part from `lo` to `hi`; the join is stored as a step, unless it stands behind
        // an only leaf
        "INSERT INTO tasker.template_steps (template_id, step_no, waiting_on, parents)
         SELECT $1, s.step_no, s.waiting_on, coalesce(($5::int4[])[s.lo:s.lo + s.waiting_on - 1], '{}')
           FROM unnest($2::int4[], $3::int4[], $4::int4[]) AS s(step_no, waiting_on, lo)";
    FIND, "find_template" =
        "SELECT template_id, namespace, name, version, definition, source, created_at
           FROM tasker.templates WHERE namespace = $1 AND name = $2 AND version = $3";
    GET, "get_templates" =
        "SELECT template_id, definition, EXISTS (SELECT 1 FROM tasker.template_steps s WHERE s.template_id = templates.template_id AND s.step_no = step_count + 1) AS joined
           FROM tasker.templates WHERE template_id = ANY ($1)";
    VERSIONS, "list_template_versions" =
        "SELECT template_id, version FROM tasker.templates WHERE namespace = $1 AND name = $2";
    LIST, "list_templates" =
        "SELECT template_id, namespace, name, version, definition ->> 'description' AS description, step_count
           FROM tasker.templates ORDER BY namespace, name, template_id";
}

/// Stores a template and its graph; `None` where its namespace, name and version are taken already. Call it
/// in a transaction.
pub async fn insert(
    connection: &mut PgConnection,
    template: &Template,
    source: &str,
) -> Result<Option<i32>> {
    let graph = Graph::of(template);
    let count = i32::try_from(graph.len()).unwrap_or(i32::MAX);
    let definition = serde_json::to_string(template)
        .map_err(|error| Error::new(INSERT.name, sqlx::Error::Encode(error.into())))?;
    let insert = sqlx::query_scalar(INSERT.sql)
        .bind(&template.namespace_name)
        .bind(&template.name)
        .bind(template.version.to_string())
        .bind(definition)
        .bind(source)
        .bind(count);
    let Some(template_id) = INSERT.run(insert.fetch_optional(&mut *connection)).await? else {
        return Ok(None);
    };
    let (mut numbers, mut waiting, mut offsets, mut parents) = (vec![], vec![], vec![], vec![]);
    for number in graph.rows() {
        numbers.push(number);
        waiting.push(graph.waiting_on(number));
        offsets.push(i32::try_from(parents.len()).unwrap_or(i32::MAX) + 1);
        parents.extend_from_slice(graph.parents(number));
    }
    let steps = sqlx::query(INSERT_STEPS.sql)
        .bind(template_id)
        .bind(numbers)
        .bind(waiting)
        .bind(offsets)
        .bind(parents);
    INSERT_STEPS.run(steps.execute(&mut *connection)).await?;
    Ok(Some(template_id))
}

/// The template of that version.
pub async fn find(
    pool: &Pool,
    namespace: &str,
    name: &str,
    version: &str,
) -> Result<Option<Stored>> {
    let query = sqlx::query_as(FIND.sql)
        .bind(namespace)
        .bind(name)
        .bind(version);
    FIND.run(query.fetch_optional(pool)).await
}

/// The definitions of templates by id, and whether a join is stored behind the steps; ids that do not exist are left out.
pub async fn get(pool: &Pool, ids: &[i32]) -> Result<Vec<(i32, Json<Template>, bool)>> {
    GET.run(sqlx::query_as(GET.sql).bind(ids).fetch_all(pool))
        .await
}

/// The ids and versions of one template's versions, in no order.
pub async fn versions(pool: &Pool, namespace: &str, name: &str) -> Result<Vec<(i32, String)>> {
    let query = sqlx::query_as(VERSIONS.sql).bind(namespace).bind(name);
    VERSIONS.run(query.fetch_all(pool)).await
}

/// Every template, by namespace and name, versions in the order they were stored.
pub async fn list(pool: &Pool) -> Result<Vec<Listed>> {
    LIST.run(sqlx::query_as(LIST.sql).fetch_all(pool)).await
}
