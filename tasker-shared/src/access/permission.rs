//! What can be permitted: a closed vocabulary of `resource:action`, and sets of it.

macro_rules! permissions {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal;)+) => {
        /// One thing that a caller may be allowed to do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Permission { $($(#[doc = $doc])+ $variant),+ }

        impl Permission {
            /// The whole vocabulary.
            pub const ALL: &[Permission] = &[$(Permission::$variant),+];

            /// As written in keys and tokens.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Permission::$variant => $text),+ }
            }

            /// What it is for.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Permission::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

permissions! {
    /// submit tasks, singly and in batches
    TasksCreate = "tasks:create";
    /// read a task, its summary and its graph, follow it
    TasksRead = "tasks:read";
    /// list tasks
    TasksList = "tasks:list";
    /// cancel tasks
    TasksCancel = "tasks:cancel";
    /// known from the published client; no route asks for it
    TasksContextRead = "tasks:context_read";
    /// list and read steps and their attempts
    StepsRead = "steps:read";
    /// retry, resolve and complete steps, and retry whole tasks
    StepsResolve = "steps:resolve";
    /// list and read templates
    TemplatesRead = "templates:read";
    /// ask a worker whether it can run a template
    TemplatesValidate = "templates:validate";
    /// store templates
    TemplatesCreate = "templates:create";
    /// list and read dead letters, the investigation queue and stale tasks
    DlqRead = "dlq:read";
    /// resolve and requeue dead letters
    DlqUpdate = "dlq:update";
    /// read the statistics of dead letters
    DlqStats = "dlq:stats";
    /// read analytics
    SystemAnalyticsRead = "system:analytics_read";
    /// read a server's configuration and log level
    SystemConfigRead = "system:config_read";
    /// change a server's log level
    SystemConfigUpdate = "system:config_update";
    /// list open circuits
    SystemCircuitsRead = "system:circuits_read";
    /// close circuits by hand
    SystemCircuitsUpdate = "system:circuits_update";
    /// known from the published client; no route asks for it
    SystemHandlersRead = "system:handlers_read";
    /// read a worker's configuration and log level
    WorkerConfigRead = "worker:config_read";
    /// change a worker's log level
    WorkerConfigUpdate = "worker:config_update";
    /// list and read templates at a worker
    WorkerTemplatesRead = "worker:templates_read";
}

impl Permission {
    fn bit(self) -> u32 {
        1 << self as u32
    }

    fn resource(self) -> &'static str {
        self.as_str().split(':').next().unwrap_or_default()
    }
}

/// A set of permissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions(u32);

/// A text that permits nothing known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no permission {text:?}; there are {all}, and `<resource>:*` for all of a resource", all = names())]
pub struct UnknownPermission {
    pub text: String,
}

fn names() -> String {
    let names: Vec<&str> = Permission::ALL.iter().map(|p| p.as_str()).collect();
    names.join(", ")
}

impl Permissions {
    /// Everything, for callers that nobody asks who they are.
    pub const ALL: Permissions = Permissions(u32::MAX);

    /// What the texts permit together, and those that permit nothing known. A text is a permission's name or
    /// `<resource>:*`; a bare `*` is no permission.
    pub fn read<T: AsRef<str>>(texts: &[T]) -> (Permissions, Vec<UnknownPermission>) {
        let mut set = Permissions::default();
        let mut unknown = Vec::new();
        for text in texts {
            let text = text.as_ref();
            let bits = match text.strip_suffix(":*") {
                Some(resource) => bits(|p| p.resource() == resource),
                None => bits(|p| p.as_str() == text),
            };
            match bits {
                0 => unknown.push(UnknownPermission {
                    text: text.to_owned(),
                }),
                bits => set.0 |= bits,
            }
        }
        (set, unknown)
    }

    /// Whether `permission` is among them.
    #[must_use]
    pub fn contains(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }
}

fn bits(is_meant: impl Fn(Permission) -> bool) -> u32 {
    let meant = Permission::ALL.iter().filter(|p| is_meant(**p));
    meant.fold(0, |bits, permission| bits | permission.bit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_permits_itself_and_a_resource_all_of_its_own() {
        use Permission::*;
        let cases: [(&[&str], &[Permission]); 6] = [
            (&[], &[]),
            (&["tasks:read"], &[TasksRead]),
            (&["dlq:*"], &[DlqRead, DlqUpdate, DlqStats]),
            (&["steps:read", "steps:resolve"], &[StepsRead, StepsResolve]),
            (&["*"], &[]),
            (
                &["*:*", ":*", "tasks", "Tasks:read", "orchestration:read"],
                &[],
            ),
        ];
        for (texts, expected) in cases {
            let (set, unknown) = Permissions::read(texts);
            for permission in Permission::ALL {
                assert_eq!(
                    set.contains(*permission),
                    expected.contains(permission),
                    "{texts:?} {permission:?}"
                );
            }
            assert_eq!(unknown.is_empty(), !expected.is_empty() || texts.is_empty());
        }
    }

    #[test]
    fn names_are_resource_and_action_and_said_once() {
        let mut seen = std::collections::HashSet::new();
        for permission in Permission::ALL {
            let (resource, action) = permission.as_str().split_once(':').unwrap_or_default();
            assert!(!resource.is_empty() && !action.is_empty(), "{permission:?}");
            assert!(seen.insert(permission.as_str()));
            assert!(Permissions::ALL.contains(*permission));
        }
        assert!(Permission::ALL.len() <= 32);
    }
}
