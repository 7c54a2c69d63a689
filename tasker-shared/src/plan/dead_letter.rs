//! Why a task became a dead letter, and what became of it: closed sets. The numbers are what the database stores.

/// Why a task became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum Reason {
    /// A step failed as often as it may.
    Exhausted = 0,
    /// A handler said that no other attempt mends it.
    Permanent = 1,
    /// A step lost its workers as often as it may.
    Poison = 2,
    /// The task went past a limit of its template's `lifecycle`.
    Stale = 3,
    /// No live worker served a step for as long as is configured.
    Unroutable = 4,
    /// The context breaks the template's `input_schema`.
    InvalidInput = 5,
    /// A person put it there.
    Manual = 6,
}

impl Reason {
    /// Every reason, in the order of its number.
    pub const ALL: [Reason; 7] = [
        Reason::Exhausted,
        Reason::Permanent,
        Reason::Poison,
        Reason::Stale,
        Reason::Unroutable,
        Reason::InvalidInput,
        Reason::Manual,
    ];

    /// The reason behind a stored number.
    pub fn from_i16(number: i16) -> Option<Reason> {
        usize::try_from(number)
            .ok()
            .and_then(|i| Reason::ALL.get(i).copied())
    }

    /// The reason by its word.
    pub fn parse(word: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|r| r.as_str() == word)
    }

    /// As metrics, the API and the command line say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Exhausted => "exhausted",
            Reason::Permanent => "permanent",
            Reason::Poison => "poison",
            Reason::Stale => "stale",
            Reason::Unroutable => "unroutable",
            Reason::InvalidInput => "invalid_input",
            Reason::Manual => "manual",
        }
    }
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Resolution {
    /// It waits for a person.
    Pending = 0,
    /// The task went on, or a person dealt with it otherwise.
    ManuallyResolved = 1,
    /// A person decided that nothing can be done.
    PermanentlyFailed = 2,
    /// The task was cancelled, or a person dropped the matter.
    Cancelled = 3,
}

impl Resolution {
    /// Every resolution, in the order of its number.
    pub const ALL: [Resolution; 4] = [
        Resolution::Pending,
        Resolution::ManuallyResolved,
        Resolution::PermanentlyFailed,
        Resolution::Cancelled,
    ];

    /// The resolution behind a stored number.
    pub fn from_i16(number: i16) -> Option<Resolution> {
        usize::try_from(number)
            .ok()
            .and_then(|i| Resolution::ALL.get(i).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_lead_back_to_what_they_stand_for() {
        for (number, reason) in (0..).zip(Reason::ALL) {
            assert_eq!(Reason::from_i16(number), Some(reason));
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        for (number, resolution) in (0..).zip(Resolution::ALL) {
            assert_eq!(Resolution::from_i16(number), Some(resolution));
        }
        assert_eq!((Reason::from_i16(7), Reason::from_i16(-1)), (None, None));
        assert_eq!(Resolution::from_i16(4), None);
        assert_eq!(Reason::parse("StalenessTimeout"), None);
    }
}
