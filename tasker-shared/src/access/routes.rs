//! Tables of routes: what each needs. A path that has no line is nobody's.

use http::Method;

use super::Permission;

/// What a route asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: anybody may.
    Nothing,
    /// A permission.
    Permission(Permission),
}

/// A line of a table: method, pattern as the router has it, need.
pub type Route = (Method, &'static str, Need);

/// What a table says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It has that line.
    Need(Need),
    /// It has the pattern with other methods only.
    OtherMethod,
    /// It does not have the pattern.
    NoRule,
}

/// What `table` says of `method` on `pattern`. HEAD is served by GET's handler and needs the same.
#[must_use]
pub fn wanted(table: &[Route], method: &Method, pattern: &str) -> Wanted {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let mut is_known = false;
    for (of, path, need) in table.iter().filter(|(_, path, _)| *path == pattern) {
        if of == method {
            return Wanted::Need(*need);
        }
        is_known |= !path.is_empty();
    }
    match is_known {
        true => Wanted::OtherMethod,
        false => Wanted::NoRule,
    }
}

/// The methods that `table` has for `pattern`, as the `Allow` header lists them.
#[must_use]
pub fn allowed(table: &[Route], pattern: &str) -> String {
    let mut methods = Vec::new();
    for (method, ..) in table.iter().filter(|(_, path, _)| *path == pattern) {
        methods.push(method.as_str());
        if method == Method::GET {
            methods.push("HEAD");
        }
    }
    methods.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_asked_by_method_and_pattern() {
        const READ: Need = Need::Permission(Permission::TasksRead);
        let table = [
            (Method::GET, "/a/{x}", READ),
            (Method::GET, "/health", Need::Nothing),
        ];
        let cases = [
            (Method::GET, "/a/{x}", Wanted::Need(READ)),
            (Method::HEAD, "/a/{x}", Wanted::Need(READ)),
            (Method::DELETE, "/a/{x}", Wanted::OtherMethod),
            (Method::GET, "/a/{y}", Wanted::NoRule),
            (Method::GET, "/health", Wanted::Need(Need::Nothing)),
        ];
        assert_eq!(allowed(&table, "/a/{x}"), "GET,HEAD");
        assert_eq!(allowed(&table, "/b"), "");
        for (method, pattern, expected) in cases {
            assert_eq!(
                wanted(&table, &method, pattern),
                expected,
                "{method} {pattern}"
            );
        }
    }
}
