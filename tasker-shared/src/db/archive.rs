//! Archives: a partition written to a compressed file, one JSON object a line, before it is dropped. A file that has
//! its name is whole: it is written under another one, made lasting and read again first. One that is whole is
//! never replaced. The files themselves are in `file`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use super::partitions::leaving::{self, Mark, named};
use super::partitions::{Table, Week};
use super::{Error as DbError, Statement, statements};

mod file;

use file::{Digest, Packer};

/// Why a partition was not archived.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(
        "the archive directory {} cannot be used: {source}; make it, or mount what it is on",
        path.display()
    )]
    Directory { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{} has room for {free} bytes, and {part} has {bytes}, of which a quarter has to be free; nothing was dropped",
        path.display()
    )]
    Room {
        path: PathBuf,
        free: u64,
        part: String,
        bytes: u64,
    },
    #[error("{} has {written} rows, the table {counted}; nothing was dropped", path.display())]
    Incomplete {
        path: PathBuf,
        written: u64,
        counted: u64,
    },
}

/// Rows read by one statement: no snapshot is held for long, which would keep dead rows everywhere.
const PAGE: usize = 10_000;
/// Lines that are compressed together.
const CHUNK_BYTES: usize = 256 * 1024;

statements! {
    IDENTITY, "get_archive_identity" =
        "SELECT current_database()::text, value FROM tasker.settings WHERE name = 'archive.identity'";
    SIZE, "size_partition" = "SELECT pg_table_size(to_regclass($1))";
}

const READ: Statement = named("read_partition");
/// The key of an attempt.
const ATTEMPT: &str = "t.task_uuid, t.step_no, t.attempt";

/// The archives of one database, in a directory of its own.
#[derive(Debug, Clone)]
pub struct Shelf {
    directory: PathBuf,
}

/// Whether `directory` is there. It is not made where it is missing: it may be on what is not mounted.
///
/// # Errors
/// It is missing, or no directory.
pub fn require(directory: &Path) -> Result<(), Error> {
    let found = fs::metadata(directory).and_then(|found| match found.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    });
    found.map_err(|source| Error::Directory {
        path: directory.to_owned(),
        source,
    })
}

/// Whether files can be made in `directory`.
///
/// # Errors
/// They cannot.
pub fn check(directory: &Path) -> Result<(), Error> {
    file::try_out(directory).map_err(|source| Error::Directory {
        path: directory.to_owned(),
        source,
    })
}

impl Shelf {
    /// Finds or makes the directory of this database in `directory`, and removes what a process that died has left
    /// unfinished. Who calls has the turn of retention.
    ///
    /// # Errors
    /// The database does not say which it is, or the directory cannot be used.
    pub async fn open(connection: &mut PgConnection, directory: &Path) -> Result<Shelf, Error> {
        check(directory)?;
        let query = sqlx::query_as(IDENTITY.sql);
        let (name, identity): (String, i64) = IDENTITY.run(query.fetch_one(connection)).await?;
        let shelf = directory.join(own_name(&name, identity));
        let made = match fs::create_dir(&shelf) {
            Ok(()) => file::sync(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        };
        made.and_then(|()| file::remove_unfinished(&shelf))
            .map_err(at(&shelf))?;
        Ok(Shelf { directory: shelf })
    }

    /// Writes a part of `week` to its file; returns what the part had. Where nobody changed it meanwhile it still
    /// has that, and all of it is in the file. A file that is whole and has something else is left alone, and
    /// another is written beside it; a part that is empty needs none.
    ///
    /// # Errors
    /// The table could not be read, the file not written, or one has not what the other has. Nothing is left that
    /// has the file's name and is not whole.
    pub async fn write(
        &self,
        connection: &mut PgConnection,
        week: &Week,
        table: Table,
    ) -> Result<Mark, Error> {
        let mark = leaving::mark(connection, week, table).await?;
        if mark.rows == 0 {
            return Ok(mark);
        }
        let part = week.part(table);
        self.find_room(connection, &part).await?;
        let unfinished = self.directory.join(file::unfinished(&part));
        let kept = self
            .write_file(connection, (week, table), &unfinished, mark)
            .await;
        if kept.is_err() {
            // Best effort: the next to come removes it.
            let _ = fs::remove_file(&unfinished);
        }
        kept.map(|()| mark)
    }

    /// Sees that the file will not fill the disk, on which there may be more than archives.
    async fn find_room(&self, connection: &mut PgConnection, part: &str) -> Result<(), Error> {
        let query = sqlx::query_scalar(SIZE.sql).bind(format!("tasker.{part}"));
        let bytes: i64 = SIZE.run(query.fetch_one(connection)).await?;
        let bytes = bytes.unsigned_abs();
        let free = file::free_bytes(&self.directory).map_err(at(&self.directory))?;
        if file::is_enough(free, bytes) {
            return Ok(());
        }
        Err(Error::Room {
            path: self.directory.clone(),
            free,
            part: part.to_owned(),
            bytes,
        })
    }

    async fn write_file(
        &self,
        connection: &mut PgConnection,
        (week, table): (&Week, Table),
        unfinished: &Path,
        mark: Mark,
    ) -> Result<(), Error> {
        let digest = read(connection, week, table, unfinished).await?;
        let (directory, part, temporary) = (
            self.directory.clone(),
            week.part(table),
            unfinished.to_owned(),
        );
        let keeping = beside(move || {
            let written = file::read(&temporary)?;
            if written == digest && written.rows == mark.rows {
                file::keep(&directory, &part, &temporary, digest)?;
            }
            Ok(written.rows)
        });
        match keeping.await.map_err(at(unfinished))? {
            written if written == mark.rows => Ok(()),
            written => Err(Error::Incomplete {
                path: unfinished.to_owned(),
                written,
                counted: mark.rows,
            }),
        }
    }
}

/// The name of a database's directory: for people its name, and a number that no other database has that was not
/// copied from it.
fn own_name(database: &str, identity: i64) -> String {
    let readable = |c: char| {
        if c.is_ascii_alphanumeric() || "_-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let database: String = database.chars().map(readable).collect();
    format!("{database}-{identity:08x}")
}

/// A row of a page: its key, which ends in zeros where the table's is shorter, and its text.
#[derive(Debug, FromRow)]
struct Line {
    task_uuid: Uuid,
    step_no: i32,
    attempt: i32,
    line: String,
}

/// Reads a part by its key into the file at `path`.
async fn read(
    connection: &mut PgConnection,
    week: &Week,
    table: Table,
    path: &Path,
) -> Result<Digest, Error> {
    let (key, order) = match table {
        Table::Tasks => ("t.task_uuid, 0, 0", "t.task_uuid"),
        Table::Steps => ("t.task_uuid, t.step_no, 0", "t.task_uuid, t.step_no"),
        Table::Attempts => (ATTEMPT, ATTEMPT),
    };
    // Documents keep the line breaks between their parts, which mean nothing; those inside of texts are escaped.
    let sql = format!(
        "SELECT p.*, translate(row_to_json(t)::text, chr(10) || chr(13), '  ') AS line
           FROM tasker.{} AS t, LATERAL (SELECT {key}) AS p(task_uuid, step_no, attempt)
          WHERE ({key}) > ($1::uuid, $2::int4, $3::int4) ORDER BY {order} LIMIT {PAGE}",
        week.part(table),
    );
    let file = path.to_owned();
    let created = beside(move || Packer::create(&file)).await;
    let mut packer = created.map_err(at(path))?;
    let mut behind = (Uuid::nil(), 0, 0);
    loop {
        let page = read_page(connection, &sql, &mut behind, packer);
        let (count, packed) = READ.run_at_length(page).await?;
        packer = packed.map_err(at(path))?;
        if count < PAGE {
            break;
        }
    }
    beside(|| packer.finish()).await.map_err(at(path))
}

/// Reads the rows behind a key, which becomes that of the last one, and says how many there were. Where the file
/// cannot be written no more are read.
async fn read_page(
    connection: &mut PgConnection,
    sql: &str,
    behind: &mut (Uuid, i32, i32),
    mut packer: Packer,
) -> Result<(usize, io::Result<Packer>), sqlx::Error> {
    let query = sqlx::query_as::<_, Line>(AssertSqlSafe(sql));
    let query = query.bind(behind.0).bind(behind.1).bind(behind.2);
    let mut rows = query.fetch(connection);
    let (mut count, mut chunk) = (0, Vec::new());
    while let Some(row) = rows.try_next().await? {
        *behind = (row.task_uuid, row.step_no, row.attempt);
        count += 1;
        chunk.extend_from_slice(row.line.as_bytes());
        chunk.push(b'\n');
        if chunk.len() >= CHUNK_BYTES {
            packer = match pack(packer, std::mem::take(&mut chunk)).await {
                Ok(packer) => packer,
                Err(error) => return Ok((count, Err(error))),
            };
        }
    }
    Ok((count, pack(packer, chunk).await))
}

async fn pack(mut packer: Packer, lines: Vec<u8>) -> io::Result<Packer> {
    beside(move || packer.add(&lines).map(|()| packer)).await
}

/// Does what waits for the disk beside the threads of the runtime.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

#[cfg(test)]
mod tests;
