//! Archives: a partition written to a compressed file, one JSON object a line, before it is dropped. A file that has
//! its name is whole: it is written under another one, made lasting, read again and counted first.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Error as DbError, Statement};

/// Why a partition was not archived.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} has {written} rows, the table {counted}; nothing was dropped", path.display())]
    Incomplete {
        path: PathBuf,
        written: u64,
        counted: u64,
    },
}

const READ: Statement = Statement {
    name: "read_partition",
    sql: "",
    calls: &[],
};
const COUNT: Statement = Statement {
    name: "count_partition",
    sql: "",
    calls: &[],
};

/// Where the archive of the partition `part` is.
#[must_use]
pub fn path(directory: &Path, part: &str) -> PathBuf {
    directory.join(format!("{part}.jsonl.gz"))
}

/// Whether files can be made in `directory`, which is made where it is not there.
///
/// # Errors
/// They cannot.
pub fn check(directory: &Path) -> Result<(), Error> {
    let probe = directory.join(".tasker-probe");
    let tried = fs::create_dir_all(directory)
        .and_then(|()| File::create(&probe))
        .and_then(|_| fs::remove_file(&probe));
    tried.map_err(at(directory))
}

/// Writes the partition `part`, which nobody changes any more, to its file; returns how many rows it has. A file
/// that is there and whole is left as it is.
///
/// # Errors
/// The table could not be read, the file not written, or one has not what the other has. Nothing is left that has the
/// file's name and is not whole.
pub async fn write(
    connection: &mut PgConnection,
    directory: &Path,
    part: &str,
) -> Result<u64, Error> {
    let path = path(directory, part);
    let counted = count(connection, part).await?;
    if count_lines(&path).await.is_ok_and(|lines| lines == counted) {
        return Ok(counted);
    }
    let unfinished = directory.join(format!(".{part}.jsonl.gz.unfinished"));
    read(connection, part, &unfinished).await?;
    let written = count_lines(&unfinished).await?;
    if written != counted {
        return Err(Error::Incomplete {
            path: unfinished,
            written,
            counted,
        });
    }
    fs::rename(&unfinished, &path).map_err(at(&path))?;
    // The name lasts when the directory does.
    let directory_file = File::open(directory).and_then(|file| file.sync_all());
    directory_file.map_err(at(directory))?;
    Ok(counted)
}

async fn count(connection: &mut PgConnection, part: &str) -> Result<u64, Error> {
    let sql = format!("SELECT count(*) FROM tasker.{part}");
    let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql));
    let rows = COUNT.run_at_length(query.fetch_one(connection)).await?;
    Ok(rows.unsigned_abs())
}

/// Row by row, so that memory does not depend on how many there are.
async fn read(connection: &mut PgConnection, part: &str, to: &Path) -> Result<(), Error> {
    // Documents keep the line breaks between their parts, which mean nothing; those inside of texts are escaped.
    let sql = format!(
        "SELECT translate(row_to_json(t)::text, chr(10) || chr(13), '  ') FROM tasker.{part} AS t"
    );
    let file = File::create(to).map_err(at(to))?;
    let mut gzip = GzEncoder::new(BufWriter::new(file), Compression::fast());
    let mut failed = None;
    let rows = async {
        let mut rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            if let Err(error) = gzip
                .write_all(row.as_bytes())
                .and_then(|()| gzip.write_all(b"\n"))
            {
                failed = Some(error);
                break;
            }
        }
        Ok(())
    };
    READ.run_at_length(rows).await?;
    if let Some(error) = failed {
        return Err(at(to)(error));
    }
    let end = gzip.finish().and_then(|mut buffer| {
        buffer.flush()?;
        buffer.get_ref().sync_all()
    });
    end.map_err(at(to))
}

/// Reads a file through and counts its lines.
async fn count_lines(path: &Path) -> Result<u64, Error> {
    let owned = path.to_owned();
    let counted = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(MultiGzDecoder::new(File::open(owned)?));
        let (mut line, mut count) = (Vec::new(), 0);
        while lines.read_until(b'\n', &mut line)? > 0 {
            count += 1;
            line.clear();
        }
        Ok(count)
    });
    let counted = counted.await.map_err(io::Error::other);
    counted.and_then(|counted| counted).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

#[cfg(test)]
mod tests;
