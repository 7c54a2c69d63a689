//! Tests that need what is not on every machine.

/// Says that a test cannot be done here, and why.
///
/// # Panics
/// Where `CI` is set: there, what is missing is a fault of the set-up, and the test must not pass.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI it must be: {why}");
    eprintln!("skipped: {why}");
}
