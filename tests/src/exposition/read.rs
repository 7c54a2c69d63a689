//! Reading the two text formats. What Prometheus would let pass, but no writer should write, is a fault here:
//! samples before their TYPE, a metric in two places, the same series twice, buckets that do not add up.

mod line;

use std::collections::{BTreeMap, BTreeSet};

use super::{Family, Format, Labels, Sample};
use line::{check_name, number, read_sample};

type Families = BTreeMap<String, Family>;

/// Reads a whole document.
///
/// # Errors
/// The first fault, with its line.
pub fn read(text: &str, format: Format) -> Result<Families, String> {
    let mut document = Document::new(format);
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    for (number, line) in text.lines().enumerate() {
        document
            .line(line)
            .map_err(|fault| format!("line {}: {fault}: {line}", number + 1))?;
    }
    if format == Format::OpenMetrics && !document.ended {
        return Err("# EOF is missing".into());
    }
    let Document { families, .. } = document;
    for (name, family) in &families {
        check(name, family).map_err(|fault| format!("{name}: {fault}"))?;
    }
    Ok(families)
}

struct Document {
    format: Format,
    families: Families,
    /// The metric that lines now belong to, by its name in the document.
    current: Option<String>,
    seen: BTreeSet<(String, Labels)>,
    ended: bool,
}

impl Document {
    fn new(format: Format) -> Self {
        Self {
            format,
            families: Families::new(),
            current: None,
            seen: BTreeSet::new(),
            ended: false,
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if self.ended {
            return Err("after # EOF".into());
        }
        if line == "# EOF" && self.format == Format::OpenMetrics {
            self.ended = true;
            return Ok(());
        }
        match line.strip_prefix("# ") {
            Some(about) => self.describe(about),
            None => self.sample(line),
        }
    }

    fn describe(&mut self, about: &str) -> Result<(), String> {
        let mut words = about.splitn(3, ' ');
        let (Some(what), Some(name), Some(text)) = (words.next(), words.next(), words.next())
        else {
            return Err("neither HELP nor TYPE".into());
        };
        check_name(name)?;
        if self.current.as_deref() != Some(name) {
            if self.families.contains_key(&self.key(name, "counter"))
                || self.families.contains_key(name)
            {
                return Err(format!("{name} was described before"));
            }
            self.current = Some(name.to_owned());
            let family = Family {
                kind: String::new(),
                help: String::new(),
                unit: None,
                samples: Vec::new(),
            };
            self.families.insert(name.to_owned(), family);
        }
        // A counter goes under its whole name once its type is known.
        let counter = self.key(name, "counter");
        let key = [name, &counter]
            .into_iter()
            .find(|key| self.families.contains_key(*key))
            .map(str::to_owned)
            .ok_or("it vanished")?;
        let family = self.families.get_mut(&key).ok_or("it vanished")?;
        if !family.samples.is_empty() {
            return Err("described after its samples".into());
        }
        match what {
            "HELP" if family.help.is_empty() => family.help = text.to_owned(),
            "UNIT" if self.format == Format::OpenMetrics && family.unit.is_none() => {
                if !name.ends_with(&format!("_{text}")) {
                    return Err(format!("{name} does not end in its unit"));
                }
                family.unit = Some(text.to_owned());
            }
            "TYPE" if family.kind.is_empty() => {
                if !["counter", "gauge", "histogram"].contains(&text) {
                    return Err(format!("unexpected type {text}"));
                }
                family.kind = text.to_owned();
                let key = self.key(name, text);
                if let Some(family) = self.families.remove(name) {
                    self.families.insert(key, family);
                }
            }
            _ => return Err(format!("{what} a second time, or unknown")),
        }
        Ok(())
    }

    /// The metric's name with us: OpenMetrics names a counter without its `_total`.
    fn key(&self, name: &str, kind: &str) -> String {
        if self.format == Format::OpenMetrics && kind == "counter" {
            format!("{name}_total")
        } else {
            name.to_owned()
        }
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let (sample, rest) = read_sample(line)?;
        if rest && self.format == Format::Prometheus {
            return Err("something follows the value".into());
        }
        let name = self.current.clone().ok_or("a sample before any TYPE")?;
        let key = [self.key(&name, "counter"), name.clone()]
            .into_iter()
            .find(|key| self.families.contains_key(key))
            .ok_or("it vanished")?;
        let family = self.families.get_mut(&key).ok_or("it vanished")?;
        let fits = match family.kind.as_str() {
            "" => return Err("a sample before its TYPE".into()),
            "histogram" => ["bucket", "sum", "count"]
                .iter()
                .any(|end| sample.name == format!("{name}_{end}")),
            _ => sample.name == key,
        };
        if !fits {
            return Err(format!("a sample of something else amid {name}"));
        }
        if sample.exemplar.is_some()
            && family.kind != "counter"
            && !sample.name.ends_with("_bucket")
        {
            return Err("an exemplar where none may be".into());
        }
        if !self
            .seen
            .insert((sample.name.clone(), sample.labels.clone()))
        {
            return Err("the same series a second time".into());
        }
        family.samples.push(sample);
        Ok(())
    }
}

/// What must hold of a metric as a whole.
fn check(name: &str, family: &Family) -> Result<(), String> {
    if family.kind.is_empty() || family.help.is_empty() {
        return Err("TYPE or HELP is missing".into());
    }
    let is_gauge = family.kind == "gauge";
    if (family.kind == "counter") != name.ends_with("_total") {
        return Err("a counter, and only a counter, ends in _total".into());
    }
    for sample in &family.samples {
        if !sample.value.is_finite() || (!is_gauge && sample.value < 0.0) {
            return Err(format!("the value of {sample}"));
        }
        if sample.labels.contains_key("le") != sample.name.ends_with("_bucket") {
            return Err(format!("le of {sample}"));
        }
    }
    if family.kind == "histogram" {
        check_histogram(name, family)?;
    }
    Ok(())
}

fn check_histogram(name: &str, family: &Family) -> Result<(), String> {
    let mut series: BTreeMap<Labels, Vec<&Sample>> = BTreeMap::new();
    for sample in &family.samples {
        series.entry(sample.series()).or_default().push(sample);
    }
    for (labels, samples) in series {
        let single = |end: &str| {
            let wanted = format!("{name}_{end}");
            let mut found = samples.iter().filter(|sample| sample.name == wanted);
            match (found.next(), found.next()) {
                (Some(sample), None) => Ok(sample.value),
                _ => Err(format!("{wanted} of {labels:?} is not there once")),
            }
        };
        let (count, sum) = (single("count")?, single("sum")?);
        let mut below = (f64::NEG_INFINITY, 0.0);
        for bucket in samples.iter().filter(|s| s.labels.contains_key("le")) {
            let bound = number(&bucket.labels["le"])?;
            if bound <= below.0 || bucket.value < below.1 {
                return Err(format!("buckets of {labels:?} do not rise"));
            }
            below = (bound, bucket.value);
        }
        if below != (f64::INFINITY, count) {
            return Err(format!("buckets of {labels:?} do not end in their count"));
        }
        if count == 0.0 && sum != 0.0 {
            return Err(format!("a sum of nothing in {labels:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
