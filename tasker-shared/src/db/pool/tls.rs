//! TLS to PostgreSQL, by the parameters of the URL, against a real server with certificates of its own.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::Target;
use crate::embedded::Temporary;

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority, and a certificate by it for one address.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key.
    fn certify(&self, address: Ipv4Addr) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(address))];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// Addresses of this machine that other tests do not use: every one listens at the same port.
fn own_addresses() -> (Ipv4Addr, Ipv4Addr) {
    let [a, b]: [u8; 2] = rand::random();
    let a = a.max(1);
    (Ipv4Addr::new(127, a, b, 11), Ipv4Addr::new(127, a, b, 12))
}

/// Lets the server write a file of its own into its data directory, which is where it works.
async fn write(connection: &mut PgConnection, file: &str, text: &str) {
    let copy = format!(
        "COPY (SELECT unnest(string_to_array('{}', E'\\n'))) TO PROGRAM 'umask 077; cat > {file}'",
        text.trim_end()
    );
    connection.execute(AssertSqlSafe(copy)).await.unwrap();
}

/// A server that takes nothing but TLS at these addresses; its certificate is for the first.
async fn encrypted(authority: &Authority, addresses: (Ipv4Addr, Ipv4Addr)) -> Temporary {
    let listen = format!("{},{}", addresses.0, addresses.1);
    let postgres = Temporary::start_with(&[("listen_addresses", &listen)], false)
        .await
        .unwrap();
    let mut connection = PgConnection::connect(postgres.url()).await.unwrap();
    let (certificate, key) = authority.certify(addresses.0);
    write(&mut connection, "server.crt", &certificate).await;
    write(&mut connection, "server.key", &key).await;
    let rules = "local all all trust\nhostssl all all 127.0.0.0/8 trust";
    write(&mut connection, "pg_hba.conf", rules).await;
    connection
        .execute("ALTER SYSTEM SET ssl = on")
        .await
        .unwrap();
    connection.execute("SELECT pg_reload_conf()").await.unwrap();
    postgres
}

/// Whether a connection by this URL is made, and encrypted.
async fn connect(url: &str) -> Result<bool, super::Error> {
    let target = Target::parse(url, "test", Duration::from_secs(10)).unwrap();
    let mut connection = target.connect().await?;
    let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let encrypted = sqlx::query_scalar(ssl).fetch_one(&mut connection).await;
    Ok(encrypted.unwrap())
}

#[tokio::test]
async fn the_url_says_how_much_is_asked_of_the_servers_certificate() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (named, unnamed) = own_addresses();
    let postgres = encrypted(&ours, (named, unnamed)).await;
    let files = postgres.directory("certificates").unwrap();
    let root = |name: &str, authority: &Authority| {
        let path = files.join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        path.display().to_string()
    };
    let (ours, other) = (root("ours.pem", &ours), root("other.pem", &other));
    let port = reqwest::Url::parse(postgres.url()).unwrap().port().unwrap();
    let url = |address: Ipv4Addr, parameters: &str| {
        format!("postgres://tasker@{address}:{port}/postgres?{parameters}")
    };
    // The server takes up its new settings when it gets round to it.
    let until = Instant::now() + PATIENCE;
    while let Err(error) = connect(&url(named, "sslmode=require")).await {
        assert!(Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let table = [
        (named, "sslmode=require".to_owned(), true),
        (named, "sslmode=prefer".to_owned(), true),
        (named, format!("sslmode=verify-ca&sslrootcert={ours}"), true),
        (
            named,
            format!("sslmode=verify-full&sslrootcert={ours}"),
            true,
        ),
        // Somebody else vouches for the server, or nobody that is known.
        (
            named,
            format!("sslmode=verify-full&sslrootcert={other}"),
            false,
        ),
        (
            named,
            format!("sslmode=verify-ca&sslrootcert={other}"),
            false,
        ),
        (named, "sslmode=verify-full".to_owned(), false),
        // The certificate is another address's.
        (
            unnamed,
            format!("sslmode=verify-ca&sslrootcert={ours}"),
            true,
        ),
        (
            unnamed,
            format!("sslmode=verify-full&sslrootcert={ours}"),
            false,
        ),
        // The server refuses what is not encrypted.
        (named, "sslmode=disable".to_owned(), false),
    ];
    for (address, parameters, expected) in table {
        let connected = connect(&url(address, &parameters)).await;
        match connected {
            Ok(encrypted) => assert!(encrypted && expected, "{address} {parameters}"),
            Err(error) => assert!(!expected, "{address} {parameters}: {error}"),
        }
    }
}
