//! The files of archives: written, read through, kept under a name that nothing else has. Everything here waits for
//! the disk, so it is not for the threads of the runtime.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

const UNFINISHED: &str = ".jsonl.gz.unfinished";

/// What a file has, whatever the order of its lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) rows: u64,
    sum: u128,
}

impl Digest {
    fn add(&mut self, line: &[u8]) {
        let hash = Sha256::digest(line);
        let half = hash
            .iter()
            .take(16)
            .fold(0, |sum, byte| (sum << 8) | u128::from(*byte));
        self.rows += 1;
        self.sum = self.sum.wrapping_add(half);
    }
}

/// The name of the `nth` archive of a part.
pub(super) fn name(part: &str, nth: u32) -> String {
    match nth {
        1 => format!("{part}.jsonl.gz"),
        nth => format!("{part}.{nth}.jsonl.gz"),
    }
}

/// The name of an archive of a part that is being written.
pub(super) fn unfinished(part: &str) -> String {
    format!(".{part}{UNFINISHED}")
}

/// Makes a file in a directory and removes it.
pub(super) fn try_out(directory: &Path) -> io::Result<()> {
    // Two processes may try the same directory at once.
    let probe = directory.join(format!(".tasker-probe-{:016x}", rand::random::<u64>()));
    File::create(&probe)?;
    fs::remove_file(&probe)
}

/// Removes what was left unfinished in a directory.
pub(super) fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// How many bytes may be written where `directory` is.
pub(super) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether a table of so many bytes may be archived where so many are free: lines of JSON are longer than rows, and
/// shrink to a tenth.
pub(super) fn is_enough(free: u64, bytes: u64) -> bool {
    free >= bytes / 4
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Packer {
    gzip: GzEncoder<BufWriter<File>>,
    digest: Digest,
}

impl Packer {
    /// An empty file at `path`.
    pub(super) fn create(path: &Path) -> io::Result<Packer> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Packer {
            gzip: GzEncoder::new(file, Compression::fast()),
            digest: Digest::default(),
        })
    }

    /// Compresses whole lines into the file.
    pub(super) fn add(&mut self, lines: &[u8]) -> io::Result<()> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.digest.add(line);
        }
        self.gzip.write_all(lines)
    }

    /// Makes the file lasting, and says what is in it.
    pub(super) fn finish(self) -> io::Result<Digest> {
        let mut buffer = self.gzip.finish()?;
        buffer.flush()?;
        buffer.get_ref().sync_all()?;
        Ok(self.digest)
    }
}

/// Reads a file through.
pub(super) fn read(path: &Path) -> io::Result<Digest> {
    let mut lines = BufReader::new(MultiGzDecoder::new(File::open(path)?));
    let (mut line, mut digest) = (Vec::new(), Digest::default());
    while lines.read_until(b'\n', &mut line)? > 0 {
        digest.add(&line);
        line.clear();
    }
    Ok(digest)
}

/// Gives a file that is whole the first name that no other file has that is whole; where one has just the same in
/// it, that one is enough.
pub(super) fn keep(
    directory: &Path,
    part: &str,
    unfinished: &Path,
    digest: Digest,
) -> io::Result<()> {
    let mut nth = 1;
    loop {
        let path = directory.join(name(part, nth));
        match read(&path) {
            Ok(found) if found == digest => {
                fs::remove_file(unfinished)?;
                break;
            }
            Ok(_) => nth += 1,
            Err(error) if is_not_whole(&error) => {
                fs::rename(unfinished, &path)?;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    // A name lasts when its directory does; whoever wrote a file that is kept may have died before that.
    sync(directory)
}

/// Whether a file is missing, or none of ours, or was cut.
fn is_not_whole(error: &io::Error) -> bool {
    use ErrorKind as K;
    matches!(
        error.kind(),
        K::NotFound | K::UnexpectedEof | K::InvalidInput | K::InvalidData
    )
}

/// Makes the names in a directory lasting.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
