//! The statement for batches in which every step ends well: the text of the whole one without what they cannot need.

use std::sync::LazyLock;

use super::APPLY;
use crate::db::Statement;

/// `APPLY` for moves that are plain: the first ten parameters are the same, but for `$4`. Most are, and a statement costs
/// by what it could do: this one 13 % less for each step of a full batch, and a fifth less for a lone one.
pub(in crate::db) static PLAIN: LazyLock<Statement> = LazyLock::new(|| Statement {
    sql: String::leak(plain(APPLY.sql)),
    ..APPLY
});

/// The text in which what stands between `/*<*/` and `/*|` is replaced by what follows up to `>*/`. The whole text does
/// without: to PostgreSQL those are comments.
fn plain(sql: &str) -> String {
    let mut parts = sql.split("/*<*/");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let instead = part.split_once("/*|").map_or(part, |(_, instead)| instead);
        text.extend(
            instead
                .split_once(">*/")
                .map(<[&str; 2]>::from)
                .into_iter()
                .flatten(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_text_has_the_short_form_of_each_part() {
        assert_eq!(plain("a /*<*/b, c/*|d>*/ e/*<*/, f/*|>*/ g"), "a d e g");
        assert!(!PLAIN.sql.contains("/*") && !PLAIN.sql.contains("$13"));
    }
}
