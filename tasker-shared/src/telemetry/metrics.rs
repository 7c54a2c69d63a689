//! The export of metrics: everything is collected at every interval and sent, and what is not taken is sent again,
//! so that a pause of the endpoint costs nothing. A series that is new leaves at zero first, its value right after, or
//! with the next interval where it was new at that time.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::time::{Instant, MissedTickBehavior};

use super::endpoint::Endpoint;
use super::faults::{Backoff, Faults};
use super::points;
use super::stop::Stop;
use crate::metrics::collect::{self, Reader};
use crate::metrics::export::{self, Signal};

/// How long after a series was shown at zero its value follows.
const FOLLOW_UP: Duration = Duration::from_secs(1);
/// How long a collection that nobody takes is kept; what has come to be since is not collected meanwhile.
const KEPT: Duration = Duration::from_secs(300);

/// What the next collection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Tick,
    FollowUp,
}

impl Next {
    /// What comes after this one, which found series that are new or none. A follow-up has none of its own: where tasks bring
    /// ids all the time there is always something new, and everything would be sent every second whatever the interval.
    fn after(self, any_new: bool, interval: Duration) -> Next {
        match self {
            Next::Tick if any_new && interval > FOLLOW_UP => Next::FollowUp,
            _ => Next::Tick,
        }
    }
}

/// Exports metrics until told to stop, and then the last of them.
#[derive(Debug)]
pub(super) struct Metrics<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) resource: Resource,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) faults: &'a Faults,
    pub(super) stop: &'a Stop,
}

/// What was collected and has not been taken yet, with the number of points.
type Pending = VecDeque<(ExportMetricsServiceRequest, u64)>;

/// What became of a request.
enum Sent {
    Taken,
    Refused,
    /// It may be taken later.
    NotYet,
}

impl Metrics<'_> {
    pub(super) async fn run(&self) {
        let mut ticks = tokio::time::interval_at(Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut pending = Pending::new();
        let mut next = Next::Tick;
        while !self.stop.has_ended() {
            match next {
                Next::FollowUp => self.stop.sleep(FOLLOW_UP).await,
                Next::Tick => tokio::select! {
                    _ = ticks.tick() => {}
                    () = self.stop.ended() => {}
                },
            }
            if !self.stop.has_ended() {
                let any_new = self.collect(&mut pending);
                next = next.after(any_new, self.interval);
                self.deliver(&mut pending).await;
            }
        }
        self.finish(pending).await;
    }

    /// Says whether there are series whose value has to follow.
    fn collect(&self, pending: &mut Pending) -> bool {
        let (families, any_new) = collect::for_reader(Reader::Otlp);
        pending.extend(points::requests(
            &families,
            &self.resource,
            SystemTime::now(),
        ));
        any_new
    }

    /// Sends until all is out or told to stop.
    async fn deliver(&self, pending: &mut Pending) {
        let since = Instant::now();
        let mut backoff = Backoff::default();
        while let Some((request, points)) = pending.front()
            && !self.stop.has_ended()
        {
            match self.send(request.clone(), *points).await {
                Sent::NotYet if since.elapsed() < KEPT => {
                    self.stop.sleep(backoff.pause()).await;
                    continue;
                }
                Sent::NotYet => export::dropped(Signal::Metrics, *points),
                Sent::Taken | Sent::Refused => {}
            }
            pending.pop_front();
        }
    }

    /// Sends what is left and then what there is, twice where series are new; each once.
    async fn finish(&self, mut pending: Pending) {
        let mut any_new = true;
        for collected in 0..=2 {
            if collected > 0 {
                if !any_new {
                    return;
                }
                any_new = self.collect(&mut pending);
            }
            while let Some((request, points)) = pending.pop_front() {
                if let Sent::NotYet = self.send(request, points).await {
                    let left: u64 = pending.iter().map(|(_, points)| points).sum();
                    export::dropped(Signal::Metrics, points + left);
                    return;
                }
            }
        }
    }

    async fn send(&self, request: ExportMetricsServiceRequest, points: u64) -> Sent {
        let sent = self
            .stop
            .within(self.timeout, self.endpoint.send(request))
            .await;
        match sent {
            Ok(Ok(None)) => self.faults.taken(Signal::Metrics, points),
            Ok(Ok(Some(partial))) => {
                let refused = u64::try_from(partial.rejected_data_points).unwrap_or_default();
                let taken = points.saturating_sub(refused);
                self.faults.taken(Signal::Metrics, taken);
                if refused > 0 {
                    export::dropped(Signal::Metrics, refused);
                    self.faults.report(Signal::Metrics, &partial.error_message);
                }
            }
            Ok(Err(error)) => {
                self.faults.report(Signal::Metrics, &error);
                if error.may_pass() {
                    return Sent::NotYet;
                }
                export::dropped(Signal::Metrics, points);
                return Sent::Refused;
            }
            Err(late) => {
                self.faults.report(Signal::Metrics, &late);
                return Sent::NotYet;
            }
        }
        Sent::Taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_series_is_followed_up_once_an_interval() {
        let minute = Duration::from_secs(60);
        assert_eq!(Next::Tick.after(false, minute), Next::Tick);
        assert_eq!(Next::Tick.after(true, minute), Next::FollowUp);
        for any_new in [false, true] {
            assert_eq!(Next::FollowUp.after(any_new, minute), Next::Tick);
        }
        // The next tick is as good a follow-up.
        assert_eq!(Next::Tick.after(true, FOLLOW_UP), Next::Tick);
    }
}
