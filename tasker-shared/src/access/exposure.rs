//! Whether an address may be listened on: what others can reach needs authentication, or a word that it does not.

use std::net::SocketAddr;

/// An address that others can reach while nobody is asked who they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} can be reached from other machines: switch authentication on (auth.enabled = true), or let everybody in \
     with --allow-anonymous ({key} = true)"
)]
pub struct Exposed {
    address: SocketAddr,
    /// The key that would allow it.
    key: &'static str,
}

/// Refuses such an address; `key` is the one that says `allow_anonymous`.
///
/// # Errors
/// The address is not this machine's own, and neither was said.
pub fn check_exposure(
    address: SocketAddr,
    auth_enabled: bool,
    allow_anonymous: bool,
    key: &'static str,
) -> Result<(), Exposed> {
    // The kernel takes ::ffff:127.0.0.1 for 127.0.0.1.
    let is_own = address.ip().to_canonical().is_loopback();
    match is_own || auth_enabled || allow_anonymous {
        true => Ok(()),
        false => Err(Exposed { address, key }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_others_can_reach_needs_a_word() {
        let cases = [
            ("127.0.0.1:8080", false, false, true),
            ("127.9.9.9:0", false, false, true),
            ("[::1]:8080", false, false, true),
            ("[::ffff:127.0.0.1]:8080", false, false, true),
            ("0.0.0.0:8080", false, false, false),
            ("[::]:8080", false, false, false),
            ("10.0.0.7:8080", false, false, false),
            ("[::ffff:10.0.0.7]:8080", false, false, false),
            ("0.0.0.0:8080", true, false, true),
            ("0.0.0.0:8080", false, true, true),
        ];
        for (address, auth, anonymous, allowed) in cases {
            let key = "server.allow_anonymous";
            let checked = check_exposure(address.parse().unwrap(), auth, anonymous, key);
            assert_eq!(checked.is_ok(), allowed, "{address}");
            if let Err(exposed) = checked {
                let text = exposed.to_string();
                for way in ["auth.enabled", "--allow-anonymous", key] {
                    assert!(text.contains(way), "{text}");
                }
            }
        }
    }
}
