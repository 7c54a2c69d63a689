//! What belongs to which namespace, for callers that are limited to some.

use uuid::Uuid;

use super::pool::Pool;
use super::{Result, statements};

statements! {
    OF_TASK, "find_task_namespace" =
        // a submission made by SQL is a task already for whoever made it
        "SELECT d.namespace FROM tasker.tasks t JOIN tasker.templates d ON d.template_id = t.template_id WHERE t.task_uuid = $1
         UNION ALL SELECT namespace FROM tasker.requests WHERE task_uuid = $1 LIMIT 1";
    TEMPLATES, "list_template_ids_of_namespaces" =
        "SELECT template_id FROM tasker.templates
          WHERE namespace = ANY ($1) AND ($2::text IS NULL OR namespace = $2) AND ($3::text IS NULL OR name = $3)";
}

/// The namespace of a task, or of a submission that is not a task yet.
pub async fn find_of_task(pool: &Pool, task_uuid: Uuid) -> Result<Option<String>> {
    let query = sqlx::query_scalar(OF_TASK.sql).bind(task_uuid);
    OF_TASK.run(query.fetch_optional(pool)).await
}

/// The templates of these namespaces, of one among them where one is named, and of a name where that is.
pub async fn list_templates(
    pool: &Pool,
    namespaces: &[String],
    namespace: Option<&str>,
    name: Option<&str>,
) -> Result<Vec<i32>> {
    let query = sqlx::query_scalar(TEMPLATES.sql)
        .bind(namespaces)
        .bind(namespace)
        .bind(name);
    TEMPLATES.run(query.fetch_all(pool)).await
}
