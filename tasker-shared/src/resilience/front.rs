//! What answers at an address: one service until the process has started, another from then on. So a process can be
//! asked how it is from its first moment.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tower::Service;

/// The two services. Clones share which one answers.
#[derive(Debug, Clone)]
pub struct Front<S> {
    starting: S,
    started: Arc<OnceLock<S>>,
}

impl<S> Front<S> {
    /// Answers by `starting`.
    pub fn new(starting: S) -> Front<S> {
        Front {
            starting,
            started: Arc::default(),
        }
    }

    /// Answers by `service` from now on; a second one is not taken.
    pub fn start(&self, service: S) {
        let _ = self.started.set(service);
    }
}

impl<S, R> Service<R> for Front<S>
where
    S: Service<R> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    /// A clone is made for each call, so this one is always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    /// The services behind it have to be ready at once, as routers are.
    fn call(&mut self, request: R) -> S::Future {
        match self.started.get() {
            Some(started) => started.clone().call(request),
            None => self.starting.clone().call(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn the_second_service_answers_once_it_is_there() {
        let says = |text: &'static str| {
            let answer: fn(&'static str) -> &'static str = match text {
                "starting" => |_| "starting",
                _ => |_| "started",
            };
            service_fn(move |asked| ready(Ok::<_, ()>(answer(asked))))
        };
        let front = Front::new(says("starting"));
        let known = front.clone();
        assert_eq!(known.clone().oneshot("?").await, Ok("starting"));
        front.start(says("started"));
        assert_eq!(known.oneshot("?").await, Ok("started"));
    }
}
