//! Somebody whose credentials were found good, or whom nobody asked.

use std::sync::Arc;

use super::{Permission, Permissions};

/// In a token or a key, every namespace.
const EVERY: &str = "*";

/// Who calls and what they may do. Clones share it; it travels in the extensions of a request.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    subject: Option<String>,
    permissions: Permissions,
    namespaces: Option<Vec<String>>,
}

impl Caller {
    /// Anybody, while authentication is off: everything is permitted everywhere.
    #[must_use]
    pub fn anonymous() -> Caller {
        Caller(Arc::new(Inner {
            subject: None,
            permissions: Permissions::ALL,
            namespaces: None,
        }))
    }

    /// Somebody who is known as `subject`. No namespaces, or `*` among them, means every one.
    #[must_use]
    pub fn known(subject: String, permissions: Permissions, namespaces: Vec<String>) -> Caller {
        let every = namespaces.is_empty() || namespaces.iter().any(|n| n == EVERY);
        Caller(Arc::new(Inner {
            subject: Some(subject),
            permissions,
            namespaces: (!every).then_some(namespaces),
        }))
    }

    /// The name of the key or the `sub` of the token; `None` for an anonymous caller.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// Whether the caller may do that at all.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.0.permissions.contains(permission)
    }

    /// Whether the caller may do it to what belongs to `namespace`.
    #[must_use]
    pub fn allows(&self, namespace: &str) -> bool {
        self.namespaces()
            .is_none_or(|namespaces| namespaces.iter().any(|allowed| allowed == namespace))
    }

    /// The namespaces that the caller is limited to; `None` where to none.
    #[must_use]
    pub fn namespaces(&self) -> Option<&[String]> {
        self.0.namespaces.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_limited_to_the_namespaces_it_names() {
        let cases: [(&[&str], &str, bool); 5] = [
            (&[], "shop", true),
            (&["*"], "shop", true),
            (&["bank", "*"], "shop", true),
            (&["bank", "shop"], "shop", true),
            (&["bank", "sho", "shop2"], "shop", false),
        ];
        for (namespaces, namespace, allowed) in cases {
            let namespaces: Vec<String> = namespaces.iter().map(|n| (*n).to_owned()).collect();
            let caller = Caller::known("ada".to_owned(), Permissions::default(), namespaces);
            assert_eq!(caller.allows(namespace), allowed, "{caller:?}");
        }
        assert!(Caller::anonymous().allows("shop"));
        assert!(Caller::anonymous().may(Permission::TasksCreate));
        assert_eq!(Caller::anonymous().subject(), None);
    }
}
