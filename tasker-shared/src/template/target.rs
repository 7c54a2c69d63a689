//! The outside thing a step talks to, so that its trouble can be told from that of others.

use super::Step;

/// The built-in handler whose target is the host it calls.
const HTTP_CALLABLE: &str = "http";

impl Step {
    /// `initialization.circuit` where given; for the `http` handler otherwise the `host:port` of its url in lower case;
    /// for anything else the empty string.
    #[must_use]
    pub fn target(&self) -> String {
        let text = |key| {
            self.handler
                .initialization
                .get(key)
                .and_then(serde_json::Value::as_str)
        };
        if let Some(circuit) = text("circuit") {
            return circuit.to_owned();
        }
        if self.handler.callable == HTTP_CALLABLE {
            return text("url").and_then(host_and_port).unwrap_or_default();
        }
        String::new()
    }
}

/// `host:port` of an http or https url, the port filled in from the scheme.
fn host_and_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => "80",
        "https" => "443",
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit('@').next()?.to_lowercase();
    // A colon inside brackets belongs to an IPv6 address.
    let after_bracket = host.rfind(']').map_or(0, |bracket| bracket + 1);
    let (name, port) = match host[after_bracket..].rfind(':') {
        Some(colon) => (
            &host[..after_bracket + colon],
            &host[after_bracket + colon + 1..],
        ),
        None => (host.as_str(), ""),
    };
    if name.is_empty() {
        return None;
    }
    let port = if port.is_empty() { default_port } else { port };
    Some(format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use crate::template::{Handler, Retry, Step, StepType};
    use serde_json::{Value, json};

    fn target(callable: &str, initialization: &Value) -> String {
        let step = Step {
            name: "s".to_owned(),
            description: None,
            step_type: StepType::Standard,
            handler: Handler {
                callable: callable.to_owned(),
                method: None,
                resolver: None,
                initialization: initialization.as_object().cloned().unwrap_or_default(),
            },
            dependencies: Vec::new(),
            retry: Retry::default(),
            timeout_seconds: None,
            publishes_events: Vec::new(),
            result_schema: None,
            batch_config: None,
            system_dependency: None,
        };
        step.target()
    }

    #[test]
    fn a_target_is_the_circuit_or_else_the_host_an_http_step_calls() {
        let cases = [
            ("charge", json!({}), ""),
            ("charge", json!({"url": "http://a.example/"}), ""),
            ("charge", json!({"circuit": "payments"}), "payments"),
            (
                "http",
                json!({"circuit": "payments", "url": "http://a/"}),
                "payments",
            ),
            (
                "http",
                json!({"url": "http://Pay.Example/v1"}),
                "pay.example:80",
            ),
            (
                "http",
                json!({"url": "HTTPS://pay.example?x=1"}),
                "pay.example:443",
            ),
            (
                "http",
                json!({"url": "http://u:p@pay.example:8080/x"}),
                "pay.example:8080",
            ),
            ("http", json!({"url": "http://[::1]:9/x"}), "[::1]:9"),
            ("http", json!({"url": "http://[::1]"}), "[::1]:80"),
            ("http", json!({"url": "http://host:"}), "host:80"),
            ("http", json!({"url": "ftp://host"}), ""),
            ("http", json!({"url": "not a url"}), ""),
            ("http", json!({"url": 7}), ""),
            ("http", json!({}), ""),
        ];
        for (callable, initialization, expected) in cases {
            assert_eq!(
                target(callable, &initialization),
                expected,
                "{initialization}"
            );
        }
    }
}
