//! What a wake about results tells: the messages themselves, where they are few. A statement writes them into the
//! notification, each with its fields in the order of `Message`'s as far as a success has them. Anybody who may connect
//! to the database can notify, so what comes of them is applied only where it agrees with what is stored
//! (`advance_graphs`).

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use crate::plan::{Kind, Message, Outcome};

/// As many messages one wake tells of at most.
pub const TOLD: usize = 4;
/// As many are kept for a loop that is busy. It finds more sooner by a look.
const KEPT: usize = 64;

/// How a statement wakes whoever waits for what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Not at all: there was a wake just now, and looks find the rest.
    None,
    Wake,
    /// By a wake that tells of what there is.
    Tell,
}

/// What wakes have told since it was last taken.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Since>);

#[derive(Debug, Default)]
struct Since {
    messages: Vec<Message>,
    /// One told of nothing, or more than is kept.
    incomplete: bool,
}

impl Told {
    /// Adds what one wake tells.
    pub(super) fn add(&self, payload: &str) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match parse(payload) {
            Some(messages) if since.messages.len() < KEPT => since.messages.extend(messages),
            _ => since.incomplete = true,
        }
    }

    /// Takes what was told; nothing where that is not all.
    pub(super) fn take(&self) -> Option<Vec<Message>> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = std::mem::take(&mut *since);
        (!since.incomplete && !since.messages.is_empty()).then_some(since.messages)
    }
}

/// The messages of a payload; `None` where it has none, or one that is not known for a success.
fn parse(payload: &str) -> Option<Vec<Message>> {
    payload.split(';').map(message).collect()
}

fn message(text: &str) -> Option<Message> {
    let mut fields = text.split(',');
    let message = Message {
        shard: next(&mut fields)?,
        id: next(&mut fields)?,
        kind: Kind::from_i16(next(&mut fields)?)?,
        task_uuid: next(&mut fields)?,
        correlation_id: next(&mut fields)?,
        step_no: next(&mut fields)?,
        attempt: next(&mut fields)?,
        tries: next(&mut fields)?,
        lost: next(&mut fields)?,
        template_id: next(&mut fields)?,
        priority: next(&mut fields)?,
        sampled: fields.next()? == "t",
        traced: fields.next()? == "t",
        progress: 0,
        retry_after_ms: None,
        control: None,
    };
    let is_success = message.kind == Kind::Ended(Outcome::Success);
    (is_success && fields.next().is_none()).then_some(message)
}

fn next<'a, T: FromStr>(fields: &mut impl Iterator<Item = &'a str>) -> Option<T> {
    fields.next()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TASK: &str = "0199c3e0-ccdb-7581-87ab-3f67dae00000";

    fn one(id: i64) -> String {
        format!("7,{id},0,{TASK},{TASK},2,1,3,1,5,-4,t,f")
    }

    fn ids(told: &Told) -> Option<Vec<i64>> {
        Some(told.take()?.iter().map(|m| m.id).collect())
    }

    #[test]
    fn a_payload_tells_of_messages() {
        let told = parse(&format!("{};{}", one(8), one(9))).unwrap();
        let expected = |id| Message {
            shard: 7,
            id,
            kind: Kind::Ended(Outcome::Success),
            task_uuid: TASK.parse().unwrap(),
            correlation_id: TASK.parse().unwrap(),
            step_no: 2,
            attempt: 1,
            tries: 3,
            lost: 1,
            template_id: 5,
            priority: -4,
            sampled: true,
            traced: false,
            progress: 0,
            retry_after_ms: None,
            control: None,
        };
        assert_eq!(told, [expected(8), expected(9)]);
    }

    #[test]
    fn what_is_not_understood_tells_nothing() {
        let known = one(8);
        let failure = known.replacen(",0,", ",2,", 1);
        let longer = format!("{known},1");
        let half = format!("{known};{}", &known[..20]);
        for payload in ["", ";", "7", "results", &failure, &longer, &half] {
            assert_eq!(parse(payload), None, "{payload:?}");
        }
    }

    #[test]
    fn what_was_told_is_taken_once_and_only_where_it_is_all() {
        let told = Told::default();
        assert_eq!(ids(&told), None);
        told.add(&one(8));
        told.add(&one(9));
        assert_eq!(ids(&told), Some(vec![8, 9]));
        assert_eq!(ids(&told), None);
        told.add(&one(10));
        told.add("");
        assert_eq!(ids(&told), None, "one told nothing");
        told.add(&one(11));
        assert_eq!(ids(&told), Some(vec![11]));
        (0..=KEPT as i64).for_each(|id| told.add(&one(id)));
        assert_eq!(ids(&told), None, "more than is kept");
    }
}
