//! The event stream of a task: server-sent events as far as this server uses them.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::{Method, header};
use tasker_shared::wire::TaskProgress;
use uuid::Uuid;

use super::Client;
use crate::failure::Failure;

/// Twice what a server may be silent between two of its comments.
const SILENCE: Duration = Duration::from_secs(45);

/// Events as they come.
pub(crate) struct Events {
    chunks: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    received: Vec<u8>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Client {
    /// Opens the event stream of a task.
    pub(crate) async fn events(&self, task: Uuid) -> Result<Events, Failure> {
        let unreachable = |source| Failure::Unreachable {
            url: self.url().to_owned(),
            source,
        };
        let response = self
            .http
            .request(Method::GET, format!("{}/v1/tasks/{task}/events", self.url))
            .header(header::ACCEPT, "text/event-stream")
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            let body = response.text().await.map_err(unreachable)?;
            return Err(Failure::refused(status, body));
        }
        let chunks = response.bytes_stream();
        Ok(Events {
            chunks: chunks
                .map(|chunk| chunk.map(|bytes| bytes.to_vec()))
                .boxed(),
            received: Vec::new(),
        })
    }
}

impl Events {
    /// The next event; `None` when the stream has ended, broken or fallen silent.
    pub(crate) async fn next(&mut self) -> Option<TaskProgress> {
        loop {
            while let Some(event) = take_event(&mut self.received) {
                if let Some(progress) =
                    data(&event).and_then(|data| serde_json::from_str(&data).ok())
                {
                    return Some(progress);
                }
            }
            match tokio::time::timeout(SILENCE, self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => self.received.extend_from_slice(&chunk),
                _ => return None,
            }
        }
    }
}

/// Cuts the first whole event off what was received.
fn take_event(received: &mut Vec<u8>) -> Option<String> {
    let end_of = |pattern: &[u8]| {
        let mut windows = received.windows(pattern.len());
        windows
            .position(|window| window == pattern)
            .map(|at| at + pattern.len())
    };
    let end = match (end_of(b"\n\n"), end_of(b"\r\n\r\n")) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => a.or(b)?,
    };
    let event: Vec<u8> = received.drain(..end).collect();
    Some(String::from_utf8_lossy(&event).into_owned())
}

/// The data of an event; `None` for a comment.
fn data(event: &str) -> Option<String> {
    let lines: Vec<&str> = event
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|data| data.strip_prefix(' ').unwrap_or(data))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_where_they_end() {
        let mut received =
            b"event: progress\ndata: {\"a\":\ndata: 1}\n\n: still here\n\nda".to_vec();
        let first = take_event(&mut received);
        assert_eq!(
            first.as_deref().and_then(data).as_deref(),
            Some("{\"a\":\n1}")
        );
        let comment = take_event(&mut received);
        assert_eq!(comment.as_deref().map(data), Some(None));
        assert_eq!(take_event(&mut received), None);
        assert_eq!(received, b"da");
    }

    #[test]
    fn carriage_returns_do_not_hurt() {
        let mut received = b"data: 1\r\n\r\ndata: 2\r\n\r\n".to_vec();
        assert_eq!(
            take_event(&mut received)
                .as_deref()
                .and_then(data)
                .as_deref(),
            Some("1")
        );
        assert_eq!(
            take_event(&mut received)
                .as_deref()
                .and_then(data)
                .as_deref(),
            Some("2")
        );
        assert_eq!(take_event(&mut received), None);
    }
}
