//! Shows a task while it is followed: a live graph on a terminal, a line a change elsewhere.

use std::io::Write;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::live::Screen;
use super::{Change, Follow, Picture};
use crate::failure::Failure;
use crate::output::{terminal, time};

/// How often the live view is drawn again while nothing changes: its clock goes on.
const REDRAW: Duration = Duration::from_millis(250);

/// How a followed task is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As suits standard output.
    Shown,
    /// Not at all.
    Silent,
}

/// Follows the task until it has settled; how it stands then.
pub(crate) async fn until_settled(follow: Follow, manner: Manner) -> Result<Picture, Failure> {
    match manner {
        Manner::Silent => silently(follow).await,
        Manner::Shown if terminal::is_live() => live(follow).await,
        Manner::Shown => in_lines(follow).await,
    }
}

async fn silently(mut follow: Follow) -> Result<Picture, Failure> {
    while !follow.next().await?.is_empty() {}
    Ok(follow.picture().clone())
}

async fn live(mut follow: Follow) -> Result<Picture, Failure> {
    let mut screen = Screen::new();
    let mut clock = tokio::time::interval(REDRAW);
    let (changed, mut changes) = tokio::sync::watch::channel(follow.picture().clone());
    let following = async {
        loop {
            let settled = follow.next().await?.is_empty();
            changed.send_replace(follow.picture().clone());
            if settled {
                return Ok::<(), Failure>(());
            }
        }
    };
    tokio::pin!(following);
    loop {
        screen.show(&changes.borrow_and_update().clone())?;
        tokio::select! {
            done = &mut following => {
                done?;
                break;
            }
            _ = clock.tick() => {}
            _ = changes.changed() => {}
        }
    }
    let last = changes.borrow().clone();
    screen.show(&last)?;
    Ok(last)
}

async fn in_lines(mut follow: Follow) -> Result<Picture, Failure> {
    let picture = follow.picture();
    let (ended, all) = picture.progress();
    say(&format!(
        "{} {}  {}  {ended} of {all} steps",
        time::of_day(Utc::now()),
        picture.title,
        picture.status
    ))?;
    loop {
        let changes = follow.next().await?;
        if changes.is_empty() {
            return Ok(follow.picture().clone());
        }
        for change in &changes {
            say(&line(Utc::now(), change))?;
        }
    }
}

/// `12:00:01 charge_payment  enqueued → in_progress (attempt 2)`
fn line(at: DateTime<Utc>, change: &Change) -> String {
    let at = time::of_day(at);
    match change {
        Change::Task { from, to } => format!("{at} task  {from} → {to}"),
        Change::Step {
            name,
            from,
            to,
            attempts,
            error,
        } => {
            let mut text = if from == to {
                format!("{at} {name}  {to}")
            } else {
                format!("{at} {name}  {from} → {to}")
            };
            if *attempts > 1 {
                text.push_str(&format!(" (attempt {attempts})"));
            }
            if let Some(first) = error.as_ref().and_then(|error| error.lines().next()) {
                text.push_str(&format!(": {first}"));
            }
            text
        }
    }
}

fn say(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|source| Failure::local("cannot write to standard output", source))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line() {
        let at = "2025-01-02T03:04:05Z".parse().unwrap();
        let step = |from: &str, to: &str, attempts, error: Option<&str>| Change::Step {
            name: "charge_payment".to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            attempts,
            error: error.map(str::to_owned),
        };
        let cases = [
            (
                step("enqueued", "in_progress", 1, None),
                "charge_payment  enqueued → in_progress",
            ),
            (
                step("enqueued", "in_progress", 2, None),
                "charge_payment  enqueued → in_progress (attempt 2)",
            ),
            (
                step(
                    "in_progress",
                    "waiting_for_retry",
                    1,
                    Some("answered 503\nbusy"),
                ),
                "charge_payment  in_progress → waiting_for_retry: answered 503",
            ),
            (
                step("in_progress", "in_progress", 3, None),
                "charge_payment  in_progress (attempt 3)",
            ),
            (
                Change::Task {
                    from: "steps_in_process".to_owned(),
                    to: "complete".to_owned(),
                },
                "task  steps_in_process → complete",
            ),
        ];
        for (change, text) in cases {
            assert_eq!(line(at, &change), format!("{} {text}", time::of_day(at)));
        }
    }
}
