//! Tasks that ended in error, or are blocked, become dead letters: all of a pass together, and told of when it is
//! committed.

use sqlx::PgConnection;
use tasker_shared::db;
use tasker_shared::db::Transaction;
use tasker_shared::db::dead_letters::{self, Buried};
use tasker_shared::metrics::orchestration as metrics;
use tasker_shared::name::Name;
use tasker_shared::plan::{Message, stale};
use tasker_shared::template::StalenessAction;
use uuid::Uuid;

use super::record::Routes;

/// Makes dead letters of the tasks of these messages, all in one transaction, and returns how many messages stay. Where
/// the database refuses them for a reason of one of them, each goes alone, so that the rest does not wait for that one.
pub(super) async fn bury(
    connection: &mut PgConnection,
    server: Uuid,
    messages: &[Message],
    routes: &Routes,
) -> db::Result<usize> {
    let judged: Vec<(&Message, bool)> = messages
        .iter()
        .map(|message| (message, stale_counts(message, routes)))
        .collect();
    if judged.is_empty() {
        return Ok(0);
    }
    match together(connection, server, &judged).await {
        Ok(()) => return Ok(0),
        Err(error) if may_pass(&error) => return Err(error),
        Err(error) => tracing::warn!(%error, "making dead letters failed; making each alone"),
    }
    let mut left = 0;
    for one in &judged {
        match together(connection, server, &[*one]).await {
            Ok(()) => {}
            Err(error) if may_pass(&error) => return Err(error),
            Err(error) => {
                left += 1;
                tracing::error!(%error, task_uuid = %one.0.task_uuid, "the task could not become a dead letter; it is tried again from time to time");
            }
        }
    }
    Ok(left)
}

/// Whether the same may succeed in a moment.
fn may_pass(error: &db::Error) -> bool {
    error.is_unavailable() || error.is_conflict()
}

async fn together(
    connection: &mut PgConnection,
    server: Uuid,
    judged: &[(&Message, bool)],
) -> db::Result<()> {
    let mut transaction = Transaction::begin(connection, "bury_tasks").await?;
    let buried = dead_letters::bury(&mut transaction, server, judged).await?;
    transaction.commit().await?;
    record(&buried);
    Ok(())
}

/// Whether the template wants a dead letter of a task that failed for being stale.
fn stale_counts(message: &Message, routes: &Routes) -> bool {
    let route = routes.get(&message.route_key());
    route.is_none_or(|route| {
        stale::action(&route.blueprint.template.lifecycle) == StalenessAction::Dlq
    })
}

fn record(buried: &[Buried]) {
    for entry in buried {
        metrics::dead_letter(Name::of(&entry.namespace), entry.reason);
        tracing::debug!(task_uuid = %entry.task_uuid, entry = %entry.entry, reason = entry.reason.as_str(), "task became a dead letter");
    }
    if !buried.is_empty() {
        tracing::info!(tasks = buried.len(), "tasks became dead letters");
    }
}
