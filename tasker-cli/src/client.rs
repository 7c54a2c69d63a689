//! The way to the REST API: addresses, bodies and answers, nothing about what they mean.

mod credentials;
mod events;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

pub(crate) use credentials::Credentials;
pub(crate) use events::Events;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the server's own `request_timeout_ms`, so that its answer is the one that is seen.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A server's REST API.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

/// A success.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: String,
    url: String,
}

/// The media type of a body that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
}

impl Client {
    /// The API at `url`, asked with these credentials. Nothing is sent yet.
    pub(crate) fn new(url: &str, credentials: &Credentials) -> Result<Client, Failure> {
        let parsed = reqwest::Url::parse(url)
            .ok()
            .filter(|parsed| matches!(parsed.scheme(), "http" | "https") && parsed.has_host())
            .ok_or_else(|| {
                Failure::Usage(format!(
                    "{url:?} is no address of a server: write it as http://127.0.0.1:8080"
                ))
            })?;
        // Fails where a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("tasker/", env!("CARGO_PKG_VERSION")))
            .default_headers(credentials.headers()?)
            // Credentials go to whom they were meant for; servers redirect nobody.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT);
        if is_loopback(&parsed) {
            http = http.no_proxy();
        }
        if parsed.scheme() == "http" {
            // A machine without certificates can still speak plain HTTP.
            http = http.tls_certs_only([]);
        }
        Ok(Client {
            http: http
                .build()
                .map_err(|source| Failure::setup("cannot set up HTTP", source))?,
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// GET with a query.
    pub(crate) async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Answer, Failure> {
        let request = self.request(Method::GET, path).query(query);
        self.send(request).await
    }

    /// GET of another media type than JSON.
    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Result<Answer, Failure> {
        let request = self.request(Method::GET, path);
        self.send(request.header(header::ACCEPT, accept)).await
    }

    /// GET, read as `T`.
    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.get(path, &[]).await?.read()
    }

    /// POST or PATCH of a value as JSON.
    pub(crate) async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, path).json(body);
        self.send(request).await
    }

    /// POST of a text as it is.
    pub(crate) async fn post_text(
        &self,
        path: &str,
        media: Media,
        body: String,
    ) -> Result<Answer, Failure> {
        let media = match media {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
        };
        let request = self.request(Method::POST, path).body(body);
        self.send(request.header(header::CONTENT_TYPE, media)).await
    }

    /// A request without a body.
    pub(crate) async fn bare(&self, method: Method, path: &str) -> Result<Answer, Failure> {
        self.send(self.request(method, path)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .timeout(REQUEST_TIMEOUT)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        let unreachable = |source| Failure::Unreachable {
            url: self.url.clone(),
            source,
        };
        let response = request.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let url = response.url().to_string();
        let body = response.text().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(Failure::refused(status, body));
        }
        Ok(Answer { headers, body, url })
    }
}

impl Answer {
    #[cfg(test)]
    pub(crate) fn of(body: String) -> Answer {
        Answer {
            headers: header::HeaderMap::new(),
            body,
            url: "http://127.0.0.1:8080".to_owned(),
        }
    }

    /// The body as `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.body).map_err(|source| Failure::Strange {
            url: self.url.clone(),
            source,
        })
    }
}

/// A part of a path, which may hold anything.
pub(crate) fn path_part(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'+' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_scheme_and_host() {
        let nobody = Credentials::default();
        for url in [
            "http://127.0.0.1:8080",
            "https://tasker.example/",
            "http://[::1]:1",
        ] {
            assert!(Client::new(url, &nobody).is_ok(), "{url}");
        }
        for url in ["127.0.0.1:8080", "ftp://x", "http://", ""] {
            assert_eq!(
                Client::new(url, &nobody).unwrap_err().status(),
                2,
                "{url:?}"
            );
        }
        let client = Client::new("http://127.0.0.1:8080/", &nobody).unwrap();
        assert_eq!(client.url(), "http://127.0.0.1:8080");
    }

    #[test]
    fn parts_of_a_path_cannot_leave_it() {
        assert_eq!(path_part("1.0.0-rc.1+port.8099"), "1.0.0-rc.1+port.8099");
        assert_eq!(path_part("../x?y#z ü"), "..%2Fx%3Fy%23z%20%C3%BC");
    }

    #[test]
    fn only_this_machine_is_reached_without_a_proxy() {
        let cases = [
            ("http://127.0.0.1:8080", true),
            ("http://127.8.0.1", true),
            ("http://localhost", true),
            ("http://[::1]:8080", true),
            ("http://10.0.0.1", false),
            ("http://tasker.example", false),
        ];
        for (url, loopback) in cases {
            assert_eq!(is_loopback(&url.parse().unwrap()), loopback, "{url}");
        }
    }
}
