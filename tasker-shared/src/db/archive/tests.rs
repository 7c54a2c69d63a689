#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use chrono::NaiveDate;
use flate2::read::MultiGzDecoder;
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

fn week() -> Week {
    Week {
        begins: NaiveDate::from_ymd_opt(2024, 5, 13).unwrap(),
        tables: BTreeMap::new(),
    }
}

async fn write(shelf: &Shelf, connection: &mut PgConnection) -> Result<u64, Error> {
    let written = shelf.write(connection, &week(), Table::Tasks).await;
    written.map(|mark| mark.rows)
}

/// The names of the files, and how many lines each has.
fn files(shelf: &Shelf) -> Vec<(String, u64)> {
    let mut files: Vec<_> = fs::read_dir(&shelf.directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, file::read(&entry.path()).unwrap().rows)
        })
        .collect();
    files.sort();
    files
}

fn path(shelf: &Shelf) -> PathBuf {
    shelf.directory.join("tasks_20240513.jsonl.gz")
}

const ONE: &str = "tasks_20240513.jsonl.gz";
const TWO: &str = "tasks_20240513.2.jsonl.gz";

#[tokio::test]
async fn what_was_archived_can_be_loaded_back_as_it_was() {
    let (_postgres, mut connection, directory) = world().await;
    let shelf = Shelf::open(&mut connection, directory.path())
        .await
        .unwrap();
    assert_eq!(write(&shelf, &mut connection).await.unwrap(), 2000);
    let mut text = String::new();
    let file = File::open(path(&shelf)).unwrap();
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
async fn a_file_that_is_whole_is_never_replaced_and_one_that_was_cut_is() {
    let (_postgres, mut connection, directory) = world().await;
    let shelf = Shelf::open(&mut connection, directory.path())
        .await
        .unwrap();
    fs::write(path(&shelf), "rubbish").unwrap();
    write(&shelf, &mut connection).await.unwrap();
    assert_eq!(files(&shelf), [(ONE.to_owned(), 2000)]);
    let whole = fs::read(path(&shelf)).unwrap();
    let changed = fs::metadata(path(&shelf)).unwrap().modified().unwrap();
    write(&shelf, &mut connection).await.unwrap();
    assert_eq!(
        fs::metadata(path(&shelf)).unwrap().modified().unwrap(),
        changed
    );
    fs::write(path(&shelf), &whole[..whole.len() / 2]).unwrap();
    write(&shelf, &mut connection).await.unwrap();
    assert_eq!(files(&shelf), [(ONE.to_owned(), 2000)]);

    // As many rows, and not the same.
    connection
        .execute("UPDATE tasker.tasks_20240513 SET priority = 1 WHERE task_uuid = (SELECT task_uuid FROM tasker.tasks_20240513 LIMIT 1)")
        .await
        .unwrap();
    let before = fs::read(path(&shelf)).unwrap();
    write(&shelf, &mut connection).await.unwrap();
    write(&shelf, &mut connection).await.unwrap();
    assert_eq!(fs::read(path(&shelf)).unwrap(), before);
    assert_eq!(
        files(&shelf),
        [(TWO.to_owned(), 2000), (ONE.to_owned(), 2000)]
    );
}

#[tokio::test]
async fn an_empty_part_needs_no_file_and_pages_have_every_row_once() {
    let (_postgres, mut connection, directory) = world().await;
    let shelf = Shelf::open(&mut connection, directory.path())
        .await
        .unwrap();
    connection
        .execute(
            "CREATE TABLE tasker.steps_20240513 (LIKE tasker.steps INCLUDING DEFAULTS);
             CREATE TABLE tasker.attempts_20240513 (LIKE tasker.attempts INCLUDING DEFAULTS);
             INSERT INTO tasker.attempts_20240513 (task_uuid, step_no, attempt, outcome, finished_at)
             SELECT tasker.lowest_uuid_at(to_timestamp(t)), s, a, 0, now()
               FROM generate_series(1, 300) t, generate_series(1, 7) s, generate_series(1, 12) a",
        )
        .await
        .unwrap();
    let steps = shelf
        .write(&mut connection, &week(), Table::Steps)
        .await
        .unwrap();
    assert_eq!(steps.rows, 0);
    let attempts = shelf
        .write(&mut connection, &week(), Table::Attempts)
        .await
        .unwrap();
    assert!(attempts.rows > 2 * PAGE as u64);
    assert_eq!(
        files(&shelf),
        [("attempts_20240513.jsonl.gz".to_owned(), attempts.rows)]
    );
}

#[tokio::test]
async fn every_database_has_a_directory_of_its_own_where_nothing_unfinished_stays() {
    let (_postgres, mut connection, directory) = world().await;
    let shelf = Shelf::open(&mut connection, directory.path())
        .await
        .unwrap();
    let name = shelf.directory.file_name().unwrap().to_str().unwrap();
    let (database, identity) = name.rsplit_once('-').unwrap();
    assert!(!database.is_empty() && u32::from_str_radix(identity, 16).is_ok());
    assert_eq!(own_name("my/data base", 0x12), "my_data_base-00000012");

    let left = shelf.directory.join(file::unfinished("tasks_20240506"));
    fs::write(&left, "half").unwrap();
    Shelf::open(&mut connection, directory.path())
        .await
        .unwrap();
    assert!(!left.exists());
    // Nothing can be written under the name of what is unfinished.
    fs::create_dir(shelf.directory.join(ONE)).unwrap();
    assert!(write(&shelf, &mut connection).await.is_err());
    let names: Vec<_> = fs::read_dir(&shelf.directory).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_disk_without_room_is_not_filled() {
    for (free, bytes, expected) in [(0, 0, true), (25, 100, true), (24, 100, false)] {
        assert_eq!(file::is_enough(free, bytes), expected, "{free} {bytes}");
    }
    assert!(file::free_bytes(Path::new("/tmp")).unwrap() > 0);
}

#[tokio::test]
async fn a_directory_that_is_missing_or_a_file_is_an_error_that_names_it_and_is_not_made() {
    let (_postgres, mut connection, directory) = world().await;
    for place in ["missing", "file"] {
        let place = directory.path().join(place);
        if place.ends_with("file") {
            fs::write(&place, "").unwrap();
        }
        let error = check(&place).unwrap_err().to_string();
        assert!(
            error.contains(place.to_str().unwrap()) && error.contains("mount"),
            "{error}"
        );
        assert!(Shelf::open(&mut connection, &place).await.is_err());
        assert!(require(&place).is_err() && require(directory.path()).is_ok());
        assert!(!place.is_dir());
    }
}
