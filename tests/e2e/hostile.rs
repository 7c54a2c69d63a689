//! What nobody who means well sends: servers and workers refuse it in good time and go on.

use std::net::SocketAddr;
use std::time::Duration;

use tasker_tests::Setup;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// Sends these bytes and returns what comes back until the other side closes.
async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    // The other side may have had enough before the end.
    let _ = connection.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut answer));
    let read = read.await.expect("the connection is closed in time");
    drop(read);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request of this line with these header lines.
fn request(line: &str, headers: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nhost: tasker\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

fn status(answer: &str) -> u16 {
    let word = answer.split_whitespace().nth(1).unwrap_or_default();
    word.parse().unwrap_or_default()
}

#[tokio::test]
async fn hostile_requests_are_refused_in_good_time_and_leave_no_trace() {
    let stack = Setup::default()
        .configure("server.request_timeout_ms", 1_000)
        .configure("server.control_timeout_ms", 500)
        .configure("worker.request_timeout_ms", 1_000)
        .start()
        .await;
    let addresses: Vec<SocketAddr> = stack.processes().map(|(_, p)| p.address()).collect();
    for address in addresses {
        // Headers beyond all measure: one that is huge, and very many.
        let huge = format!("x-huge: {}\r\n", "a".repeat(2_000_000));
        let many: String = (0..1_000).map(|n| format!("x-{n}: 1\r\n")).collect();
        for headers in [&huge, &many] {
            let answer = send(address, &request("GET /health", headers)).await;
            assert!(matches!(status(&answer), 431 | 0), "{answer}");
        }

        // Not HTTP, or a request within a request.
        for bytes in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"\r\n\r\n\r\n\x00\x00",
            b"GET /health\r\n\r\n",
            b"GET /health HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
            b"POST /health HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
            b"POST /health HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        ] {
            let mut connection = TcpStream::connect(address).await.unwrap();
            connection.write_all(bytes).await.unwrap();
            connection.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let _ = connection.read_to_end(&mut answer).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(matches!(status(&answer), 400 | 0), "{bytes:?}: {answer}");
        }

        // Paths that lead elsewhere, or into the answer's headers.
        for path in [
            "/../../../../etc/passwd",
            "/v1/templates/../../../etc/passwd",
            "/v1/templates/..%2F..%2F..%2Fetc/passwd/1.0.0",
            "/api-docs/ui/../../../../etc/passwd",
            "/api-docs/ui/..%2f..%2f..%2fetc%2fpasswd",
            "//etc/passwd",
            "/%00",
            "/v1/templates/%00/%00/%00",
            "/v1/templates/%ff/%fe/1",
            "/nowhere%0d%0aset-cookie:%20a=b",
        ] {
            let answer = send(address, &request(&format!("GET {path}"), "")).await;
            assert!((400..500).contains(&status(&answer)), "{path}: {answer}");
            let head = answer.split("\r\n\r\n").next().unwrap_or_default();
            assert!(
                !head.contains("set-cookie") && !answer.contains("root:"),
                "{path}: {answer}"
            );
            assert!(head.contains("x-request-id"), "{path}: {answer}");
        }

        // An id that would break a line of the log is not taken over.
        let id = format!("x-request-id: {}\r\n", "i".repeat(200));
        for id in [
            id.as_str(),
            "x-request-id: a\u{fc}b\r\n",
            "x-request-id: \r\n",
        ] {
            let answer = send(address, &request("GET /health", id)).await;
            assert_eq!(status(&answer), 200, "{answer}");
            assert!(
                !answer.contains("iiii") && !answer.contains('\u{fc}'),
                "{answer}"
            );
        }

        // A body that never comes.
        let headers = "content-type: application/json\r\ncontent-length: 100\r\n";
        let answer = send(address, &request("PUT /config/log-level", headers)).await;
        assert_eq!(status(&answer), 408, "{answer}");
        // And one that is not read, since it would be too large.
        let headers = "content-type: application/json\r\ncontent-length: 99999999999\r\n";
        let answer = send(address, &request("PUT /config/log-level", headers)).await;
        assert!((400..500).contains(&status(&answer)), "{answer}");

        let answer = send(address, &request("GET /health", "")).await;
        assert_eq!(status(&answer), 200, "{answer}");
    }
}
