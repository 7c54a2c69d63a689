//! What `GET /metrics` answers, whichever process is asked: who reads, which format and coding it takes, and the
//! page made of that. Routes are the processes' own.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    USER_AGENT, VARY,
};
use http::{Response, StatusCode};
use tokio::sync::Semaphore;

use super::collect::{self, Family, Reader};
use super::exposition::{self, accept};

/// Prometheus sends it with every scrape, and so do those that scrape as it does.
const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
/// What of a scraper's name tells it from others; the rest is not kept.
const NAME_BYTES: usize = 200;
/// Below this a page is sent faster than it is packed.
const PACKED_BYTES: usize = 4_096;
/// Pages that are made at once; each may be megabytes.
const PAGES: usize = 2;

static MAKING: Semaphore = Semaphore::const_new(PAGES);

/// The page with all metrics for a request with these `headers` and this `query`, from `peer`. A scraper (a request with
/// Prometheus's header) is shown series that are new to it at zero once; it is known by address, user agent and query.
/// Empty where nothing is recorded.
pub async fn answer(
    headers: &HeaderMap,
    query: Option<&str>,
    peer: Option<IpAddr>,
) -> Response<Vec<u8>> {
    let reader = reader(headers, query, peer);
    let headers = headers.clone();
    // Never closed, so there is always a permit to come.
    let _making = MAKING.acquire().await;
    let made = tokio::task::spawn_blocking(move || {
        let families = match reader {
            Some(reader) => collect::for_reader(reader).0,
            None => collect::snapshot(),
        };
        page(&families, &headers)
    });
    made.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the metrics could not be written");
        failed()
    })
}

/// Who reads, where it is one that comes again and again.
fn reader(headers: &HeaderMap, query: Option<&str>, peer: Option<IpAddr>) -> Option<Reader> {
    headers.get(&SCRAPE_TIMEOUT)?;
    let mut agent = text(headers, &USER_AGENT);
    if let Some(query) = query {
        agent.push('?');
        agent.push_str(query);
    }
    agent.truncate(agent.floor_char_boundary(NAME_BYTES));
    Some(Reader::Scraper {
        address: peer.map_or(Ipv6Addr::UNSPECIFIED.into(), |peer| peer.to_canonical()),
        agent,
    })
}

/// All values of a header, as one that lists them.
fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    texts.join(",")
}

fn page(families: &[Family], headers: &HeaderMap) -> Response<Vec<u8>> {
    let format = accept::format(&text(headers, &ACCEPT));
    let mut body = exposition::render(families, format).into_bytes();
    let mut answer = Response::new(Vec::new());
    let told = answer.headers_mut();
    told.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(format.content_type()),
    );
    told.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if body.len() >= PACKED_BYTES
        && accept::takes_gzip(&text(headers, &ACCEPT_ENCODING))
        && let Ok(packed) = pack(&body)
    {
        told.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        body = packed;
    }
    *answer.body_mut() = body;
    answer
}

/// Names recur in every line, so the fastest way makes a page ten times smaller already.
fn pack(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let room = Vec::with_capacity(body.len() / 8);
    let mut encoder = GzEncoder::new(room, Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

fn failed() -> Response<Vec<u8>> {
    let mut answer = Response::new(Vec::new());
    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    answer
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::io::Read;
    use std::time::SystemTime;

    use super::super::catalog;
    use super::super::collect::{Series, Value};
    use super::*;
    use crate::name::Name;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = given.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    /// Every metric there is, each with `series` series.
    fn families(series: u64) -> Vec<Family> {
        let definitions = catalog::rooms().into_iter().flat_map(|(_, room)| room);
        definitions
            .map(|definition| Family {
                definition,
                series: (0..series)
                    .map(|born| Series {
                        correlation_id: None,
                        names: vec![("place", Name::of(&born.to_string()))],
                        born,
                        started_at: SystemTime::UNIX_EPOCH,
                        value: Value::Count(born),
                        exemplar: None,
                    })
                    .collect(),
            })
            .collect()
    }

    fn header(answer: &Response<Vec<u8>>, name: HeaderName) -> Option<&str> {
        answer.headers().get(name).map(|v| v.to_str().unwrap())
    }

    #[test]
    fn a_large_page_is_packed_where_that_is_allowed_and_is_the_same_page() {
        let families = families(50);
        let plain = page(&families, &headers(&[]));
        assert_eq!(header(&plain, CONTENT_ENCODING), None);
        assert_eq!(
            header(&plain, CONTENT_TYPE),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        assert_eq!(header(&plain, VARY), Some("accept, accept-encoding"));

        let packed = page(&families, &headers(&[("accept-encoding", "gzip")]));
        assert_eq!(header(&packed, CONTENT_ENCODING), Some("gzip"));
        assert!(packed.body().len() * 4 < plain.body().len());
        let mut unpacked = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(packed.body().as_slice());
        decoder.read_to_end(&mut unpacked).unwrap();
        assert_eq!(&unpacked, plain.body());
    }

    #[test]
    fn a_small_page_is_not_packed() {
        let answer = page(
            &[],
            &headers(&[
                ("accept-encoding", "gzip"),
                ("accept", "application/openmetrics-text;version=1.0.0"),
            ]),
        );
        assert_eq!(header(&answer, CONTENT_ENCODING), None);
        assert_eq!(
            header(&answer, CONTENT_TYPE),
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        assert_eq!(answer.body(), b"# EOF\n");
    }

    #[test]
    fn a_scraper_is_known_by_address_agent_and_query_and_anybody_else_not_at_all() {
        let peer: IpAddr = "10.0.0.7".parse().unwrap();
        let scraper = |agent: &str| Reader::Scraper {
            address: peer,
            agent: agent.to_owned(),
        };
        let timeout = ("x-prometheus-scrape-timeout-seconds", "10");
        let agent = ("user-agent", "Prometheus/2.42.0");
        let table = [
            (headers(&[agent]), None, None),
            (
                headers(&[agent, timeout]),
                None,
                Some(scraper("Prometheus/2.42.0")),
            ),
            (
                headers(&[agent, timeout]),
                Some("replica=b"),
                Some(scraper("Prometheus/2.42.0?replica=b")),
            ),
            (headers(&[timeout]), None, Some(scraper(""))),
        ];
        for (headers, query, expected) in table {
            assert_eq!(reader(&headers, query, Some(peer)), expected);
        }
        let mapped = "::ffff:10.0.0.7".parse().unwrap();
        let found = reader(&headers(&[timeout]), None, Some(mapped));
        assert_eq!(found, Some(scraper("")));
    }

    #[test]
    fn of_a_long_name_only_the_beginning_is_kept() {
        let timeout = headers(&[("x-prometheus-scrape-timeout-seconds", "10")]);
        let query = "ü".repeat(1_000);
        match reader(&timeout, Some(&query), None) {
            Some(Reader::Scraper { agent, .. }) => assert_eq!(agent.len(), NAME_BYTES - 1),
            other => panic!("{other:?}"),
        }
    }
}
