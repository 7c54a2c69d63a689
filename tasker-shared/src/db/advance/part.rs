//! A part of an advance: the moves of one week's tasks, by the statement that has just what they need.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::APPLY;
use super::line::LINE;
use super::plain::PLAIN;
use crate::db::effects::Answer;
use crate::db::weekly::Week;
use crate::db::{Error, Result, Statement};
use crate::plan::advance::{Child, Move};
use crate::state::step::StepState;

/// The statements of an advance: the less can come of a batch, the less it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    /// For anything.
    Whole,
    /// Every step ends well and tells all its children.
    Plain,
    /// And each of these waits for nothing else.
    Line,
}

impl Text {
    fn of(moves: &[&Move], children: &[Child]) -> Text {
        if !moves.iter().all(|step| step.is_plain()) {
            return Text::Whole;
        }
        let told = |step: &Move| children.get(step.children.clone()).unwrap_or_default();
        let mut told = moves.iter().flat_map(|step| told(step));
        match told.all(|child| child.waits_for_one) {
            true => Text::Line,
            false => Text::Plain,
        }
    }

    fn statement(self) -> Statement {
        match self {
            Text::Whole => APPLY,
            Text::Plain => *PLAIN,
            Text::Line => LINE,
        }
    }
}

/// The moves of one week's tasks.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    moves: &'a [&'a Move],
    children: &'a [Child],
    text: Text,
}

impl<'a> Part<'a> {
    pub(super) fn of(moves: &'a [&'a Move], children: &'a [Child]) -> Part<'a> {
        Part {
            moves,
            children,
            text: Text::of(moves, children),
        }
    }

    /// On the week's partition; where there is none (any more), on all of them.
    pub(super) async fn apply(
        self,
        connection: &mut PgConnection,
        server: Uuid,
        notify: bool,
        week: Week,
    ) -> Result<Answer> {
        let statement = self.text.statement();
        let answer = self.run(connection, server, notify, statement.in_week(week));
        let answer = answer.await;
        match week.is_missing(&answer) {
            true => self.run(connection, server, notify, statement).await,
            false => answer,
        }
    }

    async fn run(
        self,
        connection: &mut PgConnection,
        server: Uuid,
        notify: bool,
        statement: Statement,
    ) -> Result<Answer> {
        let Part {
            moves,
            children,
            text,
        } = self;
        let column = |pick: fn(&Move) -> i16| moves.iter().map(|m| pick(m)).collect::<Vec<_>>();
        let numbers = |pick: fn(&Move) -> i32| moves.iter().map(|m| pick(m)).collect::<Vec<_>>();
        let low = |m: &&Move| int(m.children.start + 1);
        let high = |m: &&Move| int(m.children.end);
        let mut query = sqlx::query_as(statement.sql)
            .bind(server)
            .bind(column(|m| m.message.shard))
            .bind(moves.iter().map(|m| m.message.id).collect::<Vec<_>>())
            .bind(numbers(match text {
                Text::Whole => |m| m.tries,
                Text::Plain | Text::Line => |m| m.message.step_no,
            }))
            .bind(moves.iter().map(low).collect::<Result<Vec<_>>>()?)
            .bind(moves.iter().map(high).collect::<Result<Vec<_>>>()?);
        if text != Text::Line {
            query = query.bind(moves.iter().map(|m| m.blocks).collect::<Vec<_>>());
        }
        query = query
            .bind(children.iter().map(|c| c.number).collect::<Vec<_>>())
            .bind(children.iter().map(|c| c.lane).collect::<Vec<_>>())
            .bind(notify);
        if text != Text::Whole {
            query = query
                .bind(numbers(|m| m.message.template_id))
                .bind(column(|m| m.message.priority));
        } else {
            let states = |pick: fn((StepState, StepState)) -> StepState| {
                let state = |m: &&Move| m.step.map(|change| pick(change) as i16);
                moves.iter().map(state).collect::<Vec<_>>()
            };
            let ms = |delay: Duration| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            query = query
                .bind(states(|(from, _)| from))
                .bind(states(|(_, to)| to))
                .bind(numbers(|m| m.lost))
                .bind(moves.iter().map(|m| m.lane).collect::<Vec<_>>())
                .bind(moves.iter().map(|m| m.delay.map(ms)).collect::<Vec<_>>())
                .bind(moves.iter().map(|m| m.bad).collect::<Vec<_>>())
                .bind(moves.iter().map(|m| m.next).collect::<Vec<_>>());
        }
        statement.run(query.fetch_one(connection)).await
    }
}

fn int(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|e| Error::new(APPLY.name, sqlx::Error::Encode(e.into())))
}
