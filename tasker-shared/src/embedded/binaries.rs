//! Finding a PostgreSQL server among the programs of this machine.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::account::{Account, NoAccount};

/// The major versions that Tasker is tested with.
pub const SUPPORTED: std::ops::RangeInclusive<u32> = 14..=18;

/// Names the directory of the programs to use, where none is given otherwise.
const VARIABLE: &str = "TASKER_POSTGRES";

/// A server's version as it tells it, for example `15.14` or `18beta1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    major: u32,
    text: String,
}

impl Version {
    /// The first number, which decides whether a data directory fits.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Reads what `postgres --version` prints: `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
    fn parse(output: &str) -> Option<Self> {
        let text = output
            .split_once("(PostgreSQL)")?
            .1
            .split_whitespace()
            .next()?;
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        Some(Self {
            major: text[..digits].parse().ok()?,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A directory that holds `postgres` and `initdb` of a supported version.
#[derive(Debug, Clone)]
pub struct Binaries {
    directory: PathBuf,
    version: Version,
}

/// No usable PostgreSQL server was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The directory that was asked for does not serve.
    #[error("{} holds no usable PostgreSQL server", path.display())]
    Explicit {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with it.
        source: Unfit,
    },
    /// Nothing was found in any of the usual places.
    #[error(
        "no PostgreSQL server (14 to 18) on this machine{}: install one with `{install}`, or name the directory that holds `postgres` and `initdb`",
        rejected(unfit)
    )]
    Missing {
        /// The command that installs one here.
        install: &'static str,
        /// Servers that are there but do not serve.
        unfit: Vec<(PathBuf, Unfit)>,
    },
    /// Root has nobody to run it as.
    #[error(transparent)]
    Account(#[from] NoAccount),
}

/// Why a directory's programs do not serve.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A program is missing.
    #[error("there is no `{0}` in it")]
    Absent(&'static str),
    /// The server does not run.
    #[error("its `postgres` cannot be run")]
    Run(#[source] io::Error),
    /// The server runs but does not tell a version.
    #[error("its `postgres --version` says {0:?}")]
    Unreadable(String),
    /// The server is too old or too new.
    #[error("it is PostgreSQL {0}, and 14 to 18 are supported")]
    Version(Version),
}

impl Binaries {
    /// Looks in the directory given, or else in that of the environment's `TASKER_POSTGRES` (or its `bin`), and nowhere
    /// else; where there is neither in this order: `pg_config`, `PATH`, Debian's and Red Hat's version directories,
    /// Homebrew's, of several versions the highest.
    /// Runs a few short programs, so it blocks for some milliseconds.
    ///
    /// # Errors
    /// None is usable. The message names the command that installs one.
    pub fn find(explicit: Option<&Path>) -> Result<Self, FindError> {
        let account = Account::find()?;
        let variable = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        match explicit.map(Path::to_owned).or(variable.map(PathBuf::from)) {
            None => Self::first(account, usual_places()),
            Some(path) => {
                let bin = path.join("bin");
                let place = if bin.join("postgres").exists() {
                    &bin
                } else {
                    &path
                };
                Self::at(account, place).map_err(|source| FindError::Explicit { path, source })
            }
        }
    }

    /// The directory with the programs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The server's version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn first(
        account: Account,
        places: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Self, FindError> {
        let mut unfit = Vec::new();
        for place in places {
            match Self::at(account, &place) {
                Ok(found) => return Ok(found),
                // Client programs without a server are common and not worth a word.
                Err(Unfit::Absent(_)) => {}
                Err(reason) => unfit.push((place, reason)),
            }
        }
        Err(FindError::Missing {
            install: install_command(),
            unfit,
        })
    }

    /// `postgres` may be a link out of a directory of links, with `initdb` only where it leads.
    fn at(account: Account, place: &Path) -> Result<Self, Unfit> {
        let server = place
            .join("postgres")
            .canonicalize()
            .map_err(|_| Unfit::Absent("postgres"))?;
        let home = server.parent().unwrap_or(place);
        let directory = [home, place]
            .into_iter()
            .find(|directory| {
                directory.join("initdb").is_file() && directory.join("postgres").is_file()
            })
            .ok_or(Unfit::Absent("initdb"))?
            .to_owned();
        let output = account
            .command(&server)
            .arg("--version")
            .output()
            .map_err(Unfit::Run)?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let version = Version::parse(&said).ok_or(Unfit::Unreadable(said))?;
        if !SUPPORTED.contains(&version.major) {
            return Err(Unfit::Version(version));
        }
        Ok(Self { directory, version })
    }
}

fn usual_places() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    pg_config()
        .into_iter()
        .chain(std::env::split_paths(&path).collect::<Vec<_>>())
        .chain(versions_in("/usr/lib/postgresql", ""))
        .chain(versions_in("/usr", "pgsql-"))
        .chain(versions_in("/opt/homebrew/opt", "postgresql@"))
        .chain(versions_in("/usr/local/opt", "postgresql@"))
}

/// `pg_config` comes with the client libraries too: that it exists does not mean that a server does.
fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let directory = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| PathBuf::from(directory.trim_end()))
}

/// `<parent>/<prefix><number>/bin`, highest number first.
fn versions_in(parent: &str, prefix: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry
                .file_name()
                .to_str()?
                .strip_prefix(prefix)?
                .parse()
                .ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, directory)| directory)
}

fn install_command() -> &'static str {
    const BY_PROGRAM: [(&str, &str); 5] = [
        ("apt-get", "apt-get install postgresql"),
        ("dnf", "dnf install postgresql-server"),
        ("apk", "apk add postgresql"),
        ("pacman", "pacman -S postgresql"),
        ("zypper", "zypper install postgresql-server"),
    ];
    if cfg!(target_os = "macos") {
        return "brew install postgresql@17";
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    BY_PROGRAM
        .iter()
        .find(|(program, _)| {
            std::env::split_paths(&path).any(|place| place.join(program).is_file())
        })
        .map_or("apt-get install postgresql", |(_, command)| command)
}

fn rejected(unfit: &[(PathBuf, Unfit)]) -> String {
    if unfit.is_empty() {
        return String::new();
    }
    let each: Vec<String> = unfit
        .iter()
        .map(|(place, reason)| format!("{}: {reason}", place.display()))
        .collect();
    format!(" ({})", each.join("; "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_server_prints() {
        for (said, major, text) in [
            (
                "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n",
                15,
                "15.14",
            ),
            ("postgres (PostgreSQL) 18beta1", 18, "18beta1"),
            ("postgres (PostgreSQL) 17.0", 17, "17.0"),
        ] {
            let version = Version::parse(said).unwrap();
            assert_eq!(
                (version.major(), version.to_string().as_str()),
                (major, text)
            );
        }
        assert_eq!(Version::parse("mysqld 8"), None);
    }

    #[test]
    fn a_machine_without_a_server_is_told_how_to_get_one() {
        let error = Binaries::first(Account::Own, [PathBuf::from("/nowhere")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no PostgreSQL server (14 to 18) on this machine"),
            "{error}"
        );
        assert!(error.contains(install_command()), "{error}");
    }

    #[test]
    fn a_directory_named_outright_is_the_only_one_looked_at() {
        let error = Binaries::find(Some(Path::new("/nowhere"))).unwrap_err();
        assert!(
            matches!(
                error,
                FindError::Explicit {
                    source: Unfit::Absent("postgres"),
                    ..
                }
            ),
            "{error:?}"
        );
        let found = Binaries::find(None).unwrap();
        let again = Binaries::find(Some(found.directory())).unwrap();
        assert_eq!(found.directory(), again.directory());
        let above = Binaries::find(found.directory().parent()).unwrap();
        assert_eq!(found.directory(), above.directory());
    }

    #[test]
    fn a_link_to_the_server_leads_to_its_home() {
        let found = Binaries::find(None).unwrap();
        let links = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(found.program("postgres"), links.path().join("postgres"))
            .unwrap();
        let through = Binaries::first(Account::find().unwrap(), [links.path().to_owned()]).unwrap();
        assert_eq!(through.directory(), found.directory());
    }

    #[test]
    fn an_unsupported_version_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        for program in ["postgres", "initdb"] {
            let path = place.path().join(program);
            std::fs::write(&path, "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.1'\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let error =
            Binaries::first(Account::find().unwrap(), [place.path().to_owned()]).unwrap_err();
        assert!(
            error.to_string().contains("it is PostgreSQL 9.6.1"),
            "{error}"
        );
    }
}
