#![allow(clippy::unwrap_used)]

use std::time::Duration;

use sqlx::Executor;

use super::*;
use crate::db::migrate;
use crate::db::pool::Target;
use crate::embedded::Temporary;

/// A line break between the parts of a document, and what text formats of PostgreSQL would change.
const CONTEXT: &str = "{\"a\": 1.50,\n \"b\": \"tab\\t, quote\\\", back\\\\slash, \\n\", \"c\": 12345678901234567890.10}";

async fn world() -> (Temporary, PgConnection, tempfile::TempDir) {
    let postgres = Temporary::start().await.unwrap();
    let target = Target::parse(postgres.url(), "archive", Duration::from_secs(10)).unwrap();
    migrate::run(&target).await.unwrap();
    let mut connection = target.connect().await.unwrap();
    let sql = format!(
        "CREATE TABLE tasker.tasks_20240513 (LIKE tasker.tasks INCLUDING DEFAULTS);
         INSERT INTO tasker.tasks_20240513 (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at)
         SELECT gen_random_uuid(), 1, 8, 0, false, $x${CONTEXT}$x$, gen_random_uuid(), '{{\"a b\",c}}', now(), now() FROM generate_series(1, 2000)"
    );
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
    (postgres, connection, tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn what_was_archived_can_be_loaded_back_as_it_was() {
    let (_postgres, mut connection, directory) = world().await;
    let place = directory.path().join("made");
    check(&place).unwrap();
    assert_eq!(
        write(&mut connection, &place, "tasks_20240513")
            .await
            .unwrap(),
        2000
    );
    let mut text = String::new();
    let file = File::open(path(&place, "tasks_20240513")).unwrap();
    io::Read::read_to_string(&mut MultiGzDecoder::new(file), &mut text).unwrap();
    assert_eq!(text.lines().count(), 2000);
    connection
        .execute("CREATE TEMP TABLE lines (line json)")
        .await
        .unwrap();
    // As the documentation tells: no control character can be in a line.
    let mut copy = connection
        .copy_in_raw("COPY lines FROM STDIN (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')")
        .await
        .unwrap();
    copy.send(text.into_bytes()).await.unwrap();
    copy.finish().await.unwrap();
    connection
        .execute("CREATE TEMP TABLE back AS SELECT t.* FROM lines, json_populate_record(NULL::tasker.tasks, line) AS t")
        .await
        .unwrap();
    let (rows, same, contexts): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE (b.created_at, b.tags, b.state, b.correlation_id) = (t.created_at, t.tags, t.state, t.correlation_id)),
                count(*) FILTER (WHERE b.context::text = translate(t.context::text, chr(10), ' '))
           FROM back b JOIN tasker.tasks_20240513 t USING (task_uuid)",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!((rows, same, contexts), (2000, 2000, 2000));
}

#[tokio::test]
async fn a_file_that_was_cut_or_is_of_less_is_written_again_and_one_that_is_whole_is_kept() {
    let (_postgres, mut connection, directory) = world().await;
    let (place, part) = (directory.path(), "tasks_20240513");
    fs::write(path(place, part), "rubbish").unwrap();
    write(&mut connection, place, part).await.unwrap();
    let whole = fs::read(path(place, part)).unwrap();
    let changed = fs::metadata(path(place, part)).unwrap().modified().unwrap();
    write(&mut connection, place, part).await.unwrap();
    assert_eq!(
        fs::metadata(path(place, part)).unwrap().modified().unwrap(),
        changed
    );
    fs::write(path(place, part), &whole[..whole.len() / 2]).unwrap();
    write(&mut connection, place, part).await.unwrap();
    assert_eq!(count_lines(&path(place, part)).await.unwrap(), 2000);
    assert_eq!(fs::read_dir(place).unwrap().count(), 1);
}

#[tokio::test]
async fn a_directory_that_is_a_file_is_an_error_that_names_it() {
    let (_postgres, mut connection, directory) = world().await;
    let place = directory.path().join("file");
    fs::write(&place, "").unwrap();
    let error = check(&place).unwrap_err();
    assert!(error.to_string().contains("file: "), "{error}");
    assert!(
        write(&mut connection, &place, "tasks_20240513")
            .await
            .is_err()
    );
}
