//! What the planner makes of statements that keep their plans, whatever tables hold when it looks.

use sqlx::{Executor, PgConnection};

use super::migrated;
use crate::db::advance::shorter;
use crate::db::pool::Target;
use crate::db::weekly::Week;
use crate::db::{Statement, all_statements};

/// Tables that steps pass through, and such as grow.
const TABLES: [&str; 8] = [
    "ready",
    "results",
    "delayed",
    "steps_",
    "tasks_",
    "attempts_",
    "deadlines",
    "dead_letters",
];

/// Statements that run all the time, on connections that keep their plans.
const HOT: [&str; 16] = [
    "claim_steps",
    "list_inputs",
    "submit_results",
    "list_messages",
    "advance_graphs",
    "promote_delayed",
    "renew_worker",
    "read_gauges",
    "list_first_messages",
    "revoke_messages",
    "bury_tasks",
    "list_due_deadlines",
    "move_deadlines",
    "delete_deadlines",
    "list_stale_candidates",
    "fail_stale_steps",
];

/// Statements that read a table from its beginning: some rows whichever they are, or what no index tells. They run seldom.
const SCANS: [&str; 5] = [
    "count_newest_of_namespaces",
    "count_what_waits",
    "find_nth_end",
    "list_partition_holds",
    "rescue_steps",
];

/// Whenever the planner looks at a queue it may be empty or full, analysed then or never, its rows claimed or not. A
/// plan is kept until a vacuum has been there again, whatever has come since.
#[tokio::test]
async fn hot_statements_reach_every_row_by_its_key_whatever_tables_held_when_they_were_planned() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.connect().await.unwrap();
    let mut faults = Vec::new();
    for (rows, claimed) in [
        (0, 0),
        (1, 0),
        (1, 1),
        (50, 0),
        (50, 50),
        (300, 0),
        (5_000, 500),
    ] {
        fill(&mut connection, rows, claimed).await;
        for analysis in ["", "ANALYZE", "VACUUM ANALYZE"] {
            connection.execute(analysis).await.unwrap();
            for fault in faults_of_hot_statements(&target).await {
                faults.push(format!(
                    "{rows} rows, {claimed} claimed, {analysis}: {fault}"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A table of a page or two is quickest read whole. Where it grows, it has thousands before the plan is made anew.
#[tokio::test]
async fn no_statement_reads_a_table_that_grows_from_end_to_end_because_it_was_small() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.by_key().connect().await.unwrap();
    fill(&mut connection, 50, 25).await;
    connection.execute("VACUUM ANALYZE").await.unwrap();
    let mut scans = Vec::new();
    for statement in planned() {
        let plan = plan(&mut connection, statement).await;
        if TABLES.iter().any(|table| is_scanned(&plan, table)) {
            scans.push(statement.name);
        }
    }
    scans.sort_unstable();
    assert_eq!(scans, SCANS);
}

/// What is taken out of a queue may stay in its index for hours, while some session holds a snapshot: only a lane's or a
/// shard's part of it may be read. Of one that was empty when it was planned for, all looks as short as a part.
#[tokio::test]
async fn no_statement_reads_the_whole_index_of_a_queue_for_a_part_of_its_ids() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.by_key().connect().await.unwrap();
    let mut whole = Vec::new();
    for (rows, claimed) in [(0, 0), (50, 25), (300, 300)] {
        fill(&mut connection, rows, claimed).await;
        connection.execute("VACUUM ANALYZE").await.unwrap();
        for statement in planned() {
            let plan = plan(&mut connection, statement).await;
            let looks = looks_without_the_first_column(&plan);
            whole.extend(looks.into_iter().map(|look| (statement.name, look)));
        }
    }
    assert_eq!(whole, []);
}

/// Statements that have a plan.
fn planned() -> impl Iterator<Item = &'static Statement> {
    let verbs = ["WITH", "SELECT", "INSERT", "UPDATE", "DELETE"];
    let mut statements = all_statements();
    statements.retain(|s| verbs.iter().any(|verb| s.sql.starts_with(verb)));
    statements.into_iter().chain(shorter())
}

/// Looks at keys of queues with no condition but on their ids.
fn looks_without_the_first_column(plan: &str) -> Vec<String> {
    let lines: Vec<&str> = plan.lines().map(str::trim).collect();
    let is_whole = |look: &&[&str]| {
        [("ready_pkey", "(lane = "), ("results_pkey", "(shard = ")]
            .iter()
            .any(|(key, first)| {
                look[0].contains(key)
                    && look[1].starts_with("Index Cond: ")
                    && !look[1].contains(first)
            })
    };
    let looks = lines.windows(2).filter(is_whole);
    looks.map(|look| look.join(": ")).collect()
}

/// Plans them all, for the tables of a week and for the whole.
async fn faults_of_hot_statements(target: &Target) -> Vec<String> {
    let week = Week::at(chrono::Utc::now());
    let mut faults = Vec::new();
    for whole in HOT.map(named).into_iter().chain(shorter()) {
        let name = whole.name;
        for statement in [whole, &whole.in_week(week)] {
            let mut connection = target.batches().connect().await.unwrap();
            let plan = plan(&mut connection, statement).await;
            faults.extend(
                faults_of(&plan)
                    .iter()
                    .map(|fault| format!("{name}: {fault}")),
            );
        }
    }
    faults
}

/// Puts so many rows into the tables that steps pass through, of `ready` so many claimed.
async fn fill(connection: &mut PgConnection, rows: i32, claimed: i32) {
    let fill = format!(
        "TRUNCATE tasker.ready, tasker.results, tasker.delayed, tasker.steps, tasker.tasks, tasker.attempts;
         CREATE TEMP TABLE IF NOT EXISTS filled (n int, task uuid);
         TRUNCATE filled;
         INSERT INTO filled SELECT n, tasker.new_task_uuid() FROM generate_series(1, {rows}) n;
         INSERT INTO tasker.ready (lane, id, task_uuid, correlation_id, worker, enqueued_at, step_no, attempt, tries, lost, template_id, shard, priority, sampled)
         SELECT 1, n, task, task, CASE WHEN n <= {claimed} THEN task END, now(), 1, 1, 0, 0, 1, 0, 0, false FROM filled;
         INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled)
         SELECT tasker.shard_of(task), 0, task, task, now(), 1, 1, 0, 0, 1, 0, false FROM filled;
         INSERT INTO tasker.delayed (shard, due_at, task_uuid, correlation_id, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
         SELECT tasker.shard_of(task), now(), task, task, 1, 1, 0, 0, 1, 0, false, false FROM filled;
         INSERT INTO tasker.steps (task_uuid, step_no, state, waiting_on, failed, attempt, tries, lost, changed_at)
         SELECT task, 1, 0, 0, 0, 0, 0, 0, now() FROM filled;
         INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at)
         SELECT task, 1, 3, 0, false, '{{}}', task, '{{}}', now(), now() FROM filled;
         INSERT INTO tasker.attempts (task_uuid, step_no, attempt, outcome, enqueued_at, finished_at)
         SELECT task, 1, 1, 0, now(), now() FROM filled"
    );
    connection.execute(sqlx::AssertSqlSafe(fill)).await.unwrap();
}

#[tokio::test]
async fn gauges_are_read_by_keys_from_tables_that_grow() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.batches().connect().await.unwrap();
    connection.execute("ANALYZE").await.unwrap();
    for name in [
        "read_gauges",
        "list_first_messages",
        "count_open_dead_letters",
    ] {
        let plan = plan_of(&mut connection, name).await;
        for table in [
            "ready",
            "results",
            "delayed",
            "requests",
            "steps_",
            "templates",
            "dead_letters",
        ] {
            assert!(!is_scanned(&plan, table), "{name} scans {table}:\n{plan}");
        }
        assert!(!plan.contains("Hash Join"), "{name} hashes:\n{plan}");
        assert!(!plan.contains("tasks_"), "{name} counts tasks:\n{plan}");
    }
}

#[tokio::test]
async fn statements_of_a_week_touch_no_partition_of_another() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.batches().connect().await.unwrap();
    // The fewest rows that autovacuum counts: before, the planner takes a table to hold ten pages.
    let task = "INSERT INTO tasker.steps (task_uuid, step_no, state, waiting_on, failed, attempt, tries, lost, changed_at)
                SELECT tasker.new_task_uuid(), n, 0, 0, 0, 0, 0, 0, now() FROM generate_series(1, 50) n";
    connection.execute(task).await.unwrap();
    let task = "INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at)
                SELECT tasker.new_task_uuid(), 1, 3, 0, false, '{}', gen_random_uuid(), '{}', now(), now() FROM generate_series(1, 50)";
    connection.execute(task).await.unwrap();
    connection.execute("ANALYZE").await.unwrap();
    let week = Week::at(chrono::Utc::now());
    let found = ["claim_steps", "list_inputs", "advance_graphs"].map(named);
    for statement in found.into_iter().chain(shorter()) {
        let name = statement.name;
        let plan = plan(&mut connection, &statement.in_week(week)).await;
        for other in [-7, 7] {
            let other = chrono::Utc::now() + chrono::TimeDelta::days(other);
            let part = Week::at(other).part("tasks");
            assert!(!plan.contains(&part), "{name} looks at {part}:\n{plan}");
        }
        assert!(!plan.contains("Hash Join"), "{name} hashes:\n{plan}");
        assert_eq!(faults_of(&plan), Vec::<String>::new(), "{name}:\n{plan}");
        for table in ["ready", "results", "steps_", "tasks_", "attempts_"] {
            assert!(!is_scanned(&plan, table), "{name} scans {table}:\n{plan}");
        }
    }
}

/// Whether a plan reads a table, or one whose name begins so, from its beginning.
fn is_scanned(plan: &str, table: &str) -> bool {
    plan.contains(&format!("Seq Scan on {table}"))
}

/// Looks at those tables without a condition on an index, or that find messages otherwise than by their ids.
fn faults_of(plan: &str) -> Vec<String> {
    let lines: Vec<&str> = plan.lines().collect();
    let looks = TABLES.map(|table| format!(" on {table}"));
    let mut faults = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_look = looks.iter().any(|look| line.contains(look.as_str()));
        let next = lines.get(at + 1).copied().unwrap_or_default();
        let reads_index = line.contains("Index Scan") || line.contains("Index Only Scan");
        if is_look && line.contains("Seq Scan")
            || is_look && reads_index && !next.contains("Index Cond")
            || line.contains("Filter: ") && line.contains("(id = ")
            || line.contains("Hash Join")
            // Everything that waits would be read and sorted for the few that are taken.
            || is_look && line.contains("Bitmap")
        {
            faults.push(format!("{}\n{next}", line.trim()));
        }
    }
    faults.extend(looks_without_the_first_column(plan));
    faults
}

/// The generic plan of the statement with a name, as text.
async fn plan_of(connection: &mut PgConnection, name: &str) -> String {
    plan(connection, named(name)).await
}

fn named(name: &str) -> &'static Statement {
    let mut statements = all_statements().into_iter();
    statements.find(|s| s.name == name).unwrap()
}

/// The generic plan of a statement, as text.
async fn plan(connection: &mut PgConnection, statement: &Statement) -> String {
    let name = statement.name;
    let parameters = (1..)
        .take_while(|n| statement.sql.contains(&format!("${n}")))
        .count();
    let prepare = format!("PREPARE {name} AS {}", statement.sql);
    connection
        .execute(sqlx::AssertSqlSafe(prepare))
        .await
        .unwrap();
    let arguments = match parameters {
        0 => String::new(),
        _ => format!("({})", vec!["NULL"; parameters].join(", ")),
    };
    let explain = format!("EXPLAIN EXECUTE {name} {arguments}");
    let lines: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(explain))
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    let forget = format!("DEALLOCATE {name}");
    let forget = connection.execute(sqlx::AssertSqlSafe(forget));
    forget.await.unwrap();
    lines.join("\n")
}
