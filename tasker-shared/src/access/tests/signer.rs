//! Whoever makes tokens, for tests: keys of each kind, and anything signed with them.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA512, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// Made for these tests and used nowhere else.
const RSA: &str = include_str!("rsa.pem");

pub(super) enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub(super) fn rsa() -> Signer {
        let der = PrivatePkcs8KeyDer::from_pem_slice(RSA.as_bytes()).unwrap();
        Signer::Rsa(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap())
    }

    pub(super) fn ec() -> Signer {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Signer::Ec(EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap())
    }

    pub(super) fn ed() -> Signer {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Signer::Ed(Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap())
    }

    /// The public key as it is published (JWK).
    pub(super) fn jwk(&self, id: Option<&str>) -> Value {
        let mut jwk = match self {
            Signer::Rsa(pair) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": base64(&public.n), "e": base64(&public.e)})
            }
            Signer::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": base64(&point[1..33]), "y": base64(&point[33..])})
            }
            Signer::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64(pair.public_key().as_ref())})
            }
        };
        if let Some(id) = id {
            jwk["kid"] = json!(id);
        }
        jwk
    }

    /// The public key as PEM.
    pub(super) fn pem(&self) -> String {
        // The beginnings of SubjectPublicKeyInfo of each kind, up to the key itself.
        let (head, key): (&[u8], &[u8]) = match self {
            Signer::Rsa(pair) => {
                return pem("RSA PUBLIC KEY", pair.public().as_ref());
            }
            Signer::Ec(pair) => (
                &[
                    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
                ],
                pair.public_key().as_ref(),
            ),
            Signer::Ed(pair) => (
                &[
                    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
                ],
                pair.public_key().as_ref(),
            ),
        };
        pem("PUBLIC KEY", &[head, key].concat())
    }

    /// A token with this header and these claims, signed as `alg` says.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        let message = format!(
            "{}.{}",
            base64(header.to_string().as_bytes()),
            base64(claims.to_string().as_bytes())
        );
        let signature = self.sign(
            message.as_bytes(),
            header["alg"].as_str().unwrap_or_default(),
        );
        format!("{message}.{}", base64(&signature))
    }

    fn sign(&self, message: &[u8], algorithm: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                match algorithm {
                    "PS512" => pair.sign(&RSA_PSS_SHA512, &random, message, &mut signature),
                    _ => pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature),
                }
                .unwrap();
                signature
            }
            Signer::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Signer::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = encode(
        der,
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    );
    let padding = "=".repeat((4 - text.len() % 4) % 4);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}{padding}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// As tokens are written: for URLs, without padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    encode(
        bytes,
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
    )
}

fn encode(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let number = u32::from_be_bytes(group);
        for digit in 0..=chunk.len() {
            let index = (number >> (18 - 6 * digit)) & 63;
            text.push(char::from(alphabet[index as usize]));
        }
    }
    text
}
