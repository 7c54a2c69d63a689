//! What makes a token good.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::signer::{Signer, base64};
use crate::access::token::{Key, Rules, key_of_pem, keys_of_set, verify};
use crate::access::{Permission, Refusal, signature};

const NOW: f64 = 1_700_000_000.0;

fn rules() -> Rules {
    Rules {
        issuer: "tasker-core".to_owned(),
        audience: "tasker-api".to_owned(),
        algorithms: vec![
            Algorithm::RS256,
            Algorithm::PS512,
            Algorithm::ES256,
            Algorithm::EdDSA,
        ],
        leeway_seconds: 30.0,
        strict: true,
        require_namespaces: false,
    }
}

fn claims() -> Value {
    json!({
        "sub": "ada", "iss": "tasker-core", "aud": "tasker-api", "iat": 1_699_999_000, "exp": 1_700_000_100,
        "permissions": ["tasks:read", "dlq:*"], "worker_namespaces": ["shop"]
    })
}

/// `claims()` with changes; null takes a claim away.
fn changed(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn published(signers: &[(&Signer, Option<&str>)]) -> Vec<Key> {
    let keys: Vec<Value> = signers.iter().map(|(s, id)| s.jwk(*id)).collect();
    keys_of_set(&serde_json::from_value(json!({ "keys": keys })).unwrap())
}

#[test]
fn every_kind_of_key_is_verified_from_pem_and_from_a_set() {
    signature::install();
    for (signer, algorithm) in [
        (Signer::rsa(), "RS256"),
        (Signer::rsa(), "PS512"),
        (Signer::ec(), "ES256"),
        (Signer::ed(), "EdDSA"),
    ] {
        let token = signer.token(&json!({"alg": algorithm, "typ": "JWT"}), &claims());
        for keys in [
            vec![key_of_pem(&signer.pem()).expect(algorithm)],
            published(&[(&signer, None)]),
        ] {
            let caller = verify(&token, &keys, &rules(), NOW).expect(algorithm);
            assert_eq!(caller.subject(), Some("ada"));
            assert!(caller.may(Permission::DlqUpdate) && !caller.may(Permission::TasksCreate));
            assert_eq!(caller.namespaces(), Some(&["shop".to_owned()][..]));
        }
    }
}

#[test]
fn claims_decide_who_may_what_and_until_when() {
    signature::install();
    let signer = Signer::ed();
    let keys = published(&[(&signer, None)]);
    let header = json!({"alg": "EdDSA"});
    let table = [
        (json!({}), None),
        (json!({"exp": 1_699_999_971.5}), None),
        (json!({"exp": 1_699_999_970}), Some("expired")),
        (json!({"exp": 0}), Some("expired")),
        (json!({"exp": -1e300}), Some("expired")),
        (json!({"exp": null}), Some("invalid")),
        (json!({"exp": "1800000000"}), Some("invalid")),
        (json!({"nbf": 1_700_000_030}), None),
        (json!({"nbf": 1_700_000_031}), Some("invalid")),
        (json!({"aud": ["other", "tasker-api"]}), None),
        (json!({"aud": ["other"]}), Some("invalid")),
        (json!({"aud": []}), Some("invalid")),
        (json!({"aud": null}), Some("invalid")),
        (json!({"iss": "somebody"}), Some("invalid")),
        (json!({"iss": null}), Some("invalid")),
        (json!({"sub": null}), Some("invalid")),
        (json!({"permissions": ["tasks:fly"]}), Some("invalid")),
        (json!({"permissions": ["*"]}), Some("invalid")),
        (json!({"permissions": "tasks:read"}), Some("invalid")),
        (
            json!({"permissions": null, "worker_namespaces": null}),
            None,
        ),
    ];
    for (changes, expected) in table {
        let token = signer.token(&header, &changed(changes.clone()));
        let reason = verify(&token, &keys, &rules(), NOW)
            .err()
            .and_then(|refusal| refusal.reason());
        assert_eq!(reason, expected, "{changes}");
    }
    let lax = Rules {
        strict: false,
        ..rules()
    };
    let token = signer.token(
        &header,
        &changed(json!({"permissions": ["orchestration:read", "steps:read"]})),
    );
    let caller = verify(&token, &keys, &lax, NOW).unwrap();
    assert!(caller.may(Permission::StepsRead) && !caller.may(Permission::TasksRead));
}

#[test]
fn nothing_but_a_right_signature_by_a_known_key_counts() {
    signature::install();
    let (ours, other, rsa) = (Signer::ed(), Signer::ed(), Signer::rsa());
    let keys = published(&[(&ours, Some("a")), (&rsa, Some("r"))]);
    let good = ours.token(&json!({"alg": "EdDSA", "kid": "a"}), &claims());
    assert!(verify(&good, &keys, &rules(), NOW).is_ok());

    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let more = base64(
        changed(json!({"permissions": ["tasks:*"]}))
            .to_string()
            .as_bytes(),
    );
    let none = base64(br#"{"alg":"none"}"#);
    let table = [
        // Claims of somebody else's choice under our signature.
        (format!("{head}.{more}.{signature}"), "invalid"),
        (format!("{none}.{more}."), "malformed"),
        (format!("{head}.{more}."), "invalid"),
        (
            other.token(&json!({"alg": "EdDSA", "kid": "a"}), &claims()),
            "invalid",
        ),
        (other.token(&json!({"alg": "EdDSA"}), &claims()), "invalid"),
        (
            ours.token(&json!({"alg": "EdDSA", "kid": "b"}), &claims()),
            "invalid",
        ),
        // Genuine, but the key that it names is another.
        (
            ours.token(&json!({"alg": "EdDSA", "kid": "r"}), &claims()),
            "invalid",
        ),
        // The algorithm is not what the key is for.
        (
            ours.token(&json!({"alg": "RS256", "kid": "a"}), &claims()),
            "invalid",
        ),
        (
            ours.token(&json!({"alg": "HS256", "kid": "a"}), &claims()),
            "invalid",
        ),
        (
            rsa.token(&json!({"alg": "RS384", "kid": "r"}), &claims()),
            "invalid",
        ),
        ("a.b.c".to_owned(), "malformed"),
        ("a.b".to_owned(), "malformed"),
        (format!("{good}.x"), "malformed"),
        (String::new(), "malformed"),
    ];
    for (token, reason) in table {
        let refusal = verify(&token, &keys, &rules(), NOW).unwrap_err();
        assert_eq!(refusal.reason(), Some(reason), "{token}: {refusal}");
        assert!(token.is_empty() || !refusal.to_string().contains(&token));
    }
}

#[test]
fn a_shared_secret_in_a_published_set_is_no_key() {
    let set = json!({"keys": [
        {"kty": "oct", "k": "aHVudGVyMg", "kid": "s"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc"},
    ]});
    assert!(keys_of_set(&serde_json::from_value(set).unwrap()).is_empty());
    assert!(key_of_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----").is_none());
    assert!(key_of_pem("nothing").is_none());
}

#[test]
fn an_expired_token_says_so_and_nothing_of_itself() {
    assert_eq!(
        Refusal::Expired("token").to_string(),
        "the token has expired; get a new one"
    );
}

#[test]
fn a_token_without_namespaces_reaches_all_unless_they_are_asked_for() {
    signature::install();
    let signer = Signer::rsa();
    let keys = [key_of_pem(&signer.pem()).unwrap()];
    let asking = Rules {
        require_namespaces: true,
        ..rules()
    };
    for (namespaces, reaches, is_refused) in [
        (Value::Null, true, true),
        (json!([]), true, true),
        (json!(["*"]), true, false),
        (json!(["shop"]), false, false),
    ] {
        let claims = changed(json!({ "worker_namespaces": namespaces }));
        let token = signer.token(&json!({"alg": "RS256"}), &claims);
        let caller = verify(&token, &keys, &rules(), NOW).unwrap();
        assert_eq!(caller.allows("bank"), reaches, "{namespaces}");
        let asked = verify(&token, &keys, &asking, NOW);
        assert_eq!(asked.is_err(), is_refused, "{namespaces}");
    }
}
