//! What can go wrong: the kinds of faults, and which may happen at the same time.

use std::fmt;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SIGKILL, and started again when others have taken over.
    WorkerKilled,
    /// The same.
    ServerKilled,
    /// SIGSTOP until its lease has run out, then SIGCONT.
    WorkerFrozen,
    /// SIGSTOP until its shards have gone to others, then SIGCONT.
    ServerFrozen,
    /// SIGTERM, and started again.
    WorkerTerminated,
    /// The same.
    ServerTerminated,
    /// Immediate shutdown (SIGQUIT), and started again.
    DatabaseCrashed,
    /// SIGKILL of its first process, and started again.
    DatabaseKilled,
    /// The connections of some processes end; new ones are taken.
    ConnectionsCut,
    /// Bytes are held for a while, then pass.
    ConnectionsStalled,
    /// They pass nothing more and never end; new ones do pass.
    ConnectionsSilent,
    /// Every message takes long.
    ConnectionsSlowed,
    /// The connections end, and for a while there are no new ones.
    ConnectionsRefused,
    /// The clocks of some processes go ahead, and are put right.
    ClockForward,
    /// They fall behind, and are put right.
    ClockBack,
    /// There is no room for results.
    DiskFull,
    /// Statements are cancelled in their middle.
    StatementCancelled,
    /// The sessions of statements are ended in their middle.
    SessionTerminated,
    /// Results of steps that have ended, and of steps that are somebody else's, are handed in.
    LateResults,
    /// What `http` steps talk to takes no connections for a while.
    TargetAway,
}

/// What a fault takes hold of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A process.
    Process,
    /// What is around processes: their lines to the database, their clocks, whom their steps talk to.
    Surroundings,
    /// The database's server.
    Database,
    /// The tables, which have to be reached to do it.
    Tables,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 20] = [
        Kind::WorkerKilled,
        Kind::ServerKilled,
        Kind::WorkerFrozen,
        Kind::ServerFrozen,
        Kind::WorkerTerminated,
        Kind::ServerTerminated,
        Kind::DatabaseCrashed,
        Kind::DatabaseKilled,
        Kind::ConnectionsCut,
        Kind::ConnectionsStalled,
        Kind::ConnectionsSilent,
        Kind::ConnectionsSlowed,
        Kind::ConnectionsRefused,
        Kind::ClockForward,
        Kind::ClockBack,
        Kind::DiskFull,
        Kind::StatementCancelled,
        Kind::SessionTerminated,
        Kind::LateResults,
        Kind::TargetAway,
    ];

    /// As the table has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::WorkerKilled => "worker killed (SIGKILL)",
            Kind::ServerKilled => "server killed (SIGKILL)",
            Kind::WorkerFrozen => "worker frozen past its lease (SIGSTOP, SIGCONT)",
            Kind::ServerFrozen => "server frozen past its shards' time (SIGSTOP, SIGCONT)",
            Kind::WorkerTerminated => "worker ended and started again (SIGTERM)",
            Kind::ServerTerminated => "server ended and started again (SIGTERM)",
            Kind::DatabaseCrashed => "PostgreSQL shut down at once (SIGQUIT)",
            Kind::DatabaseKilled => "PostgreSQL killed (SIGKILL)",
            Kind::ConnectionsCut => "connections cut",
            Kind::ConnectionsStalled => "connections stalled",
            Kind::ConnectionsSilent => "connections silent for good",
            Kind::ConnectionsSlowed => "connections slowed",
            Kind::ConnectionsRefused => "connections cut and refused",
            Kind::ClockForward => "clock of a process stepped forward",
            Kind::ClockBack => "clock of a process stepped back",
            Kind::DiskFull => "disk full for results",
            Kind::StatementCancelled => "statements cancelled in their middle",
            Kind::SessionTerminated => "sessions ended in the middle of a statement",
            Kind::LateResults => "duplicate and late results handed in",
            Kind::TargetAway => "target of `http` steps away",
        }
    }

    /// What it takes hold of.
    #[must_use]
    pub fn place(self) -> Place {
        match self {
            Kind::WorkerKilled
            | Kind::ServerKilled
            | Kind::WorkerFrozen
            | Kind::ServerFrozen
            | Kind::WorkerTerminated
            | Kind::ServerTerminated => Place::Process,
            Kind::ConnectionsCut
            | Kind::ConnectionsStalled
            | Kind::ConnectionsSilent
            | Kind::ConnectionsSlowed
            | Kind::ConnectionsRefused
            | Kind::ClockForward
            | Kind::ClockBack
            | Kind::TargetAway => Place::Surroundings,
            Kind::DatabaseCrashed | Kind::DatabaseKilled => Place::Database,
            Kind::DiskFull
            | Kind::StatementCancelled
            | Kind::SessionTerminated
            | Kind::LateResults => Place::Tables,
        }
    }
}

impl Kind {
    /// What is counted of it, which must be more than none in every storm; nothing of those that are seen to have
    /// struck as they are done.
    #[must_use]
    pub fn counted(self) -> Option<&'static str> {
        match self {
            Kind::WorkerKilled | Kind::WorkerFrozen => Some("steps held"),
            Kind::ServerKilled | Kind::ServerFrozen => Some("shards held"),
            Kind::ConnectionsCut | Kind::ConnectionsSilent | Kind::ConnectionsRefused => {
                Some("connections")
            }
            Kind::ConnectionsStalled | Kind::ConnectionsSlowed => Some("messages"),
            Kind::ClockForward | Kind::ClockBack => Some("tasks with times that are wrong"),
            Kind::DiskFull => Some("writes refused"),
            Kind::StatementCancelled => Some("statements"),
            Kind::SessionTerminated => Some("sessions"),
            Kind::LateResults => Some("results, none counted"),
            Kind::TargetAway => Some("steps parked, no attempt spent"),
            Kind::WorkerTerminated
            | Kind::ServerTerminated
            | Kind::DatabaseCrashed
            | Kind::DatabaseKilled => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
