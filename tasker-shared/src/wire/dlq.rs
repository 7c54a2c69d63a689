//! Dead letters and staleness: what is listed, counted and looked into.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use super::json::RawJson;
use super::time;
use crate::plan::dead_letter::{Reason, Resolution};

/// Declares a closed set that is sent in PascalCase and taken in either spelling.
macro_rules! closed {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $snake:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
        pub enum $name { $($variant),+ }

        impl $name {
            const ALL: &[$name] = &[$($name::$variant),+];

            /// As entries have it.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => stringify!($variant)),+ }
            }

            /// As queries and summaries have it.
            pub fn as_snake(self) -> &'static str {
                match self { $($name::$variant => $snake),+ }
            }

            /// The value of either spelling.
            pub fn parse(word: &str) -> Option<$name> {
                let known = $name::ALL.iter();
                known.copied().find(|known| known.as_str() == word || known.as_snake() == word)
            }

            /// What may be said, for an error.
            pub fn words() -> String {
                let words: Vec<&str> = $name::ALL.iter().map(|known| known.as_snake()).collect();
                words.join(", ")
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                let word = String::deserialize(from)?;
                $name::parse(&word).ok_or_else(|| {
                    serde::de::Error::custom(format!("{word:?} is none of {}", $name::words()))
                })
            }
        }
    };
}

closed! {
    /// Why a task became a dead letter, as far as the published client tells reasons apart.
    DlqReason {
        StalenessTimeout = "staleness_timeout",
        MaxRetriesExceeded = "max_retries_exceeded",
        DependencyCycleDetected = "dependency_cycle_detected",
        WorkerUnavailable = "worker_unavailable",
        ManualDlq = "manual_dlq",
    }
}

closed! {
    /// What became of a dead letter.
    DlqResolution {
        Pending = "pending",
        ManuallyResolved = "manually_resolved",
        PermanentlyFailed = "permanently_failed",
        Cancelled = "cancelled",
    }
}

impl From<Reason> for DlqReason {
    fn from(reason: Reason) -> DlqReason {
        match reason {
            Reason::Exhausted | Reason::Permanent => DlqReason::MaxRetriesExceeded,
            Reason::Stale => DlqReason::StalenessTimeout,
            Reason::Poison | Reason::Unroutable => DlqReason::WorkerUnavailable,
            Reason::InvalidInput | Reason::Manual => DlqReason::ManualDlq,
        }
    }
}

impl DlqReason {
    /// The reasons that it stands for.
    pub fn exact(self) -> Vec<Reason> {
        let all = Reason::ALL.into_iter();
        all.filter(|reason| DlqReason::from(*reason) == self)
            .collect()
    }
}

impl From<Resolution> for DlqResolution {
    fn from(resolution: Resolution) -> DlqResolution {
        match resolution {
            Resolution::Pending => DlqResolution::Pending,
            Resolution::ManuallyResolved => DlqResolution::ManuallyResolved,
            Resolution::PermanentlyFailed => DlqResolution::PermanentlyFailed,
            Resolution::Cancelled => DlqResolution::Cancelled,
        }
    }
}

impl From<DlqResolution> for Resolution {
    fn from(resolution: DlqResolution) -> Resolution {
        match resolution {
            DlqResolution::Pending => Resolution::Pending,
            DlqResolution::ManuallyResolved => Resolution::ManuallyResolved,
            DlqResolution::PermanentlyFailed => Resolution::PermanentlyFailed,
            DlqResolution::Cancelled => Resolution::Cancelled,
        }
    }
}

/// A dead letter: a task that cannot go on until somebody has looked at it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DlqEntry {
    pub dlq_entry_uuid: Uuid,
    pub task_uuid: Uuid,
    /// The task's state when the entry was made.
    pub original_state: String,
    pub dlq_reason: DlqReason,
    #[serde(with = "time::nts")]
    #[schema(value_type = String)]
    pub dlq_timestamp: DateTime<Utc>,
    pub resolution_status: DlqResolution,
    #[serde(
        with = "time::nts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub resolution_timestamp: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution_notes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_by: Option<String>,
    /// `task`, as it was, and `steps`, those that had not ended well with their last errors: the failed ones first, up to 50.
    #[schema(value_type = Object)]
    pub task_snapshot: RawJson,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub metadata: Option<RawJson>,
    #[serde(with = "time::nts")]
    #[schema(value_type = String)]
    pub created_at: DateTime<Utc>,
    #[serde(with = "time::nts")]
    #[schema(value_type = String)]
    pub updated_at: DateTime<Utc>,
    /// `exhausted`, `permanent`, `poison`, `stale`, `unroutable`, `invalid_input` or `manual`.
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub task_name: String,
    /// The steps that failed, in short.
    #[serde(default)]
    pub failed_steps: Vec<DlqStep>,
}

/// A failed step of a dead letter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DlqStep {
    pub name: String,
    /// Attempts of the handler that counted.
    pub attempts: i32,
    /// Workers that it lost.
    pub lost_leases: i32,
    /// How its last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// What its last attempt said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The dead letters of a reason.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DlqStats {
    pub dlq_reason: DlqReason,
    pub total_entries: i64,
    pub pending: i64,
    pub manually_resolved: i64,
    pub permanent_failures: i64,
    pub cancelled: i64,
    #[serde(
        with = "time::nts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub oldest_entry: Option<DateTime<Utc>>,
    #[serde(
        with = "time::nts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub newest_entry: Option<DateTime<Utc>>,
    /// Of those that have been resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avg_resolution_time_minutes: Option<f64>,
    /// All entries by the exact reason.
    #[serde(default)]
    pub reasons: BTreeMap<String, i64>,
}

/// A dead letter that waits for somebody.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DlqInvestigationQueueEntry {
    pub dlq_entry_uuid: Uuid,
    pub task_uuid: Uuid,
    pub original_state: String,
    pub dlq_reason: DlqReason,
    #[serde(with = "time::nts")]
    #[schema(value_type = String)]
    pub dlq_timestamp: DateTime<Utc>,
    pub minutes_in_dlq: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_in_state_minutes: Option<i32>,
    /// The minutes it waits, and more by reason: 500 where a handler failed, 100 for a stale task, 50 where no worker could, 10 otherwise.
    pub priority_score: f64,
    /// As in an entry.
    #[serde(default)]
    pub reason: String,
}

/// How close a live task is to being stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StalenessHealth {
    Healthy,
    Warning,
    Stale,
}

/// A live task, measured by the limit that it is closest to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StalenessMonitoring {
    pub task_uuid: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_name: Option<String>,
    pub current_state: String,
    /// Since a step of it last changed.
    pub time_in_state_minutes: i32,
    pub task_age_minutes: i32,
    pub staleness_threshold_minutes: i32,
    pub health_status: StalenessHealth,
    pub priority: i32,
    /// The key of the template's `lifecycle` that the threshold is of.
    #[serde(default)]
    pub limit: String,
    /// What happens at the threshold: `dlq`, `error` or `none`, which is so too where the template does not have the limit.
    #[serde(default)]
    pub action: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn either_spelling_is_taken_and_one_is_sent() {
        for word in ["ManuallyResolved", "manually_resolved"] {
            let read: DlqResolution = serde_json::from_value(word.into()).unwrap();
            assert_eq!(read, DlqResolution::ManuallyResolved);
        }
        let sent = serde_json::to_string(&DlqReason::MaxRetriesExceeded).unwrap();
        assert_eq!(sent, r#""MaxRetriesExceeded""#);
        let wrong = serde_json::from_str::<DlqResolution>(r#""done""#);
        let text = wrong.unwrap_err().to_string();
        assert!(
            text.contains("none of pending, manually_resolved"),
            "{text}"
        );
    }

    #[test]
    fn every_reason_has_a_word_that_the_client_knows_and_is_found_by_it() {
        for reason in Reason::ALL {
            assert!(DlqReason::from(reason).exact().contains(&reason));
        }
        assert_eq!(
            DlqReason::MaxRetriesExceeded.exact(),
            [Reason::Exhausted, Reason::Permanent]
        );
        assert!(DlqReason::DependencyCycleDetected.exact().is_empty());
        for resolution in Resolution::ALL {
            assert_eq!(
                Resolution::from(DlqResolution::from(resolution)),
                resolution
            );
        }
    }
}
