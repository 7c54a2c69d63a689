//! Reading one line of either format.

use crate::exposition::{Exemplar, Labels, Sample};

/// A line, and whether anything follows its value.
pub(super) fn read_sample(line: &str) -> Result<(Sample, bool), String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    check_name(name)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => read_labels(rest)?,
        None => (Labels::new(), rest),
    };
    let rest = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let (value, rest) = rest
        .split_once(' ')
        .map_or((rest, None), |(value, rest)| (value, Some(rest)));
    let exemplar = match rest {
        None => None,
        Some(rest) => Some(read_exemplar(
            rest.strip_prefix("# {")
                .ok_or("no exemplar, but something")?,
        )?),
    };
    let sample = Sample {
        name: name.to_owned(),
        labels,
        value: number(value)?,
        exemplar,
    };
    Ok((sample, rest.is_some()))
}

fn read_exemplar(text: &str) -> Result<Exemplar, String> {
    let (labels, rest) = read_labels(text)?;
    let length: usize = labels
        .iter()
        .map(|(name, value)| name.chars().count() + value.chars().count())
        .sum();
    if length > 128 {
        return Err("an exemplar's labels are too long".into());
    }
    let mut words = rest.strip_prefix(' ').ok_or("no value")?.split(' ');
    let value = number(words.next().ok_or("no value")?)?;
    let at = words.next().map(number).transpose()?;
    match words.next() {
        None => Ok(Exemplar { labels, value, at }),
        Some(_) => Err("something follows an exemplar".into()),
    }
}

/// Labels up to their closing brace, and what follows it.
fn read_labels(text: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    let mut rest = text;
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        check_name(name)?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().ok_or("a value that does not end")? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, character @ ('\\' | '"'))) => character,
                    _ => return Err("an unknown escape".into()),
                }),
                (_, character) => value.push(character),
            }
        };
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("label {name} twice"));
        }
        rest = &after[end..];
        match rest.strip_prefix(',') {
            Some(next) if !next.starts_with('}') => rest = next,
            _ if rest.starts_with('}') => {}
            _ => return Err("no comma between labels".into()),
        }
    }
}

pub(super) fn check_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(good)
    {
        return Err(format!("{name:?} is no name"));
    }
    Ok(())
}

pub(super) fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        text if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            text.parse().map_err(|_| format!("{text:?} is no number"))
        }
        _ => Err(format!("{text:?} is no number")),
    }
}
