//! From the parser's events to the tree. Syntax ends the reading; everything else wrong is collected.

use super::{Entry, Kind, MAX_ALIASED_VALUES, MAX_DEPTH, Node, Place, scalar};
use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The key whose value is merged into the mapping it stands in.
const MERGE_KEY: &str = "<<";

/// A message and its place.
pub(in super::super) type Complaint = (Place, String);

/// The one document of the source, with everything wrong with it as YAML. No tree where it could not be read.
pub(in super::super) fn build(source: &str) -> (Option<Node>, Vec<Complaint>) {
    let mut options = granit_parser::options! {};
    options.set_emit_comments(false);
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(source, options) {
        if let Err(complaint) = event
            .map_err(syntax)
            .and_then(|(event, span)| builder.take(event, &span))
        {
            builder.complaints.push(complaint);
            return (None, builder.complaints);
        }
    }
    if builder.root.is_none() {
        let start = Place { line: 1, column: 1 };
        builder
            .complaints
            .push((start, "the file holds no template".to_owned()));
    }
    (builder.root, builder.complaints)
}

fn syntax(error: ScanError) -> Complaint {
    (
        place(error.marker()),
        format!("not valid YAML: {}", error.info()),
    )
}

fn place(marker: &Marker) -> Place {
    Place {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    documents: usize,
    complaints: Vec<Complaint>,
}

/// A collection whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        merged: Vec<Node>,
        key: Option<Key>,
    },
}

/// A key that waits for its value.
struct Key {
    text: Rc<str>,
    place: Place,
    merges: bool,
}

impl Builder {
    /// An error here ends the reading: what follows would only be a consequence.
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Complaint> {
        let at = place(&span.start);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err((
                        at,
                        "a file holds one template; put the next one into a file of its own"
                            .to_owned(),
                    ));
                }
            }
            Event::Alias(anchor) => self.alias(at, anchor)?,
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(at, text, style, anchor, tag.as_deref())?
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(at, tag.as_deref(), "seq");
                self.start(at, anchor, Content::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(at, tag.as_deref(), "map");
                let content = Content::Map {
                    entries: Vec::new(),
                    merged: Vec::new(),
                    key: None,
                };
                self.start(at, anchor, content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), Complaint> {
        if let Some(Open {
            content: Content::Map { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err((place, "a key must be text".to_owned()));
        }
        if self.open.len() == MAX_DEPTH {
            return Err((place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Open {
            place,
            anchor,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Complaint> {
        let Some(Open {
            place,
            anchor,
            content,
        }) = self.open.pop()
        else {
            return Ok(());
        };
        let kind = match content {
            Content::List(items) => Kind::List(items),
            Content::Map {
                mut entries,
                merged,
                ..
            } => {
                self.merge(&mut entries, &merged);
                Kind::Map(entries)
            }
        };
        let children: Vec<&Node> = match &kind {
            Kind::List(items) => items.iter().collect(),
            Kind::Map(entries) => entries.iter().map(|entry| &entry.value).collect(),
            _ => Vec::new(),
        };
        let node = Node {
            place,
            weight: children
                .iter()
                .fold(1, |sum, child| sum.saturating_add(child.weight)),
            depth: 1 + children
                .iter()
                .map(|child| child.depth)
                .max()
                .unwrap_or_default(),
            kind: Rc::new(kind),
        };
        self.finish(anchor, node)
    }

    fn scalar(
        &mut self,
        at: Place,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), Complaint> {
        if text.contains('\0') {
            self.complaints
                .push((at, "the character \\0 is not allowed".to_owned()));
        }
        let plain = style == ScalarStyle::Plain && tag.is_none();
        if let Some(Open {
            content: Content::Map {
                key: key @ None, ..
            },
            ..
        }) = self.open.last_mut()
        {
            if anchor != 0 {
                let kind = Rc::new(Kind::Text(text.clone().into_owned()));
                self.anchors.insert(
                    anchor,
                    Node {
                        place: at,
                        kind,
                        weight: 1,
                        depth: 0,
                    },
                );
            }
            *key = Some(Key {
                merges: plain && text == MERGE_KEY,
                text: text.into(),
                place: at,
            });
            return Ok(());
        }
        self.refuse_tag(at, tag, "str");
        let kind = if plain {
            scalar::resolve(&text).unwrap_or_else(|reason| {
                self.complaints.push((at, reason.to_owned()));
                Kind::Null
            })
        } else {
            Kind::Text(text.into_owned())
        };
        let node = Node {
            place: at,
            kind: Rc::new(kind),
            weight: 1,
            depth: 0,
        };
        self.finish(anchor, node)
    }

    fn alias(&mut self, at: Place, anchor: usize) -> Result<(), Complaint> {
        if let Some(Open {
            content: Content::Map { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err((at, "a key must be text".to_owned()));
        }
        let Some(target) = self.anchors.get(&anchor) else {
            return Err((at, "the alias stands inside what it stands for".to_owned()));
        };
        let node = Node {
            place: at,
            ..target.clone()
        };
        self.aliased = self.aliased.saturating_add(node.weight);
        if self.aliased > MAX_ALIASED_VALUES {
            return Err((
                at,
                format!("the aliases stand for more than {MAX_ALIASED_VALUES} values"),
            ));
        }
        if self.open.len() + node.depth > MAX_DEPTH {
            return Err((at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.finish(0, node)
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, anchor: usize, node: Node) -> Result<(), Complaint> {
        // Anchors are numbered from 1.
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map {
                entries,
                merged,
                key,
            }) => match key.take() {
                Some(key) if key.merges => merged.push(node),
                Some(key) => entries.push(Entry {
                    key: key.text,
                    place: key.place,
                    value: node,
                }),
                None => return Err((node.place, "a key must be text".to_owned())),
            },
        }
        Ok(())
    }

    /// Complains of repeated keys and adds what the merge keys bring: the mapping's own keys win, then earlier ones.
    fn merge(&mut self, entries: &mut Vec<Entry>, merged: &[Node]) {
        let mut keys: HashSet<Rc<str>> = HashSet::with_capacity(entries.len());
        entries.retain(|entry| {
            let is_new = keys.insert(Rc::clone(&entry.key));
            if !is_new {
                self.complaints
                    .push((entry.place, format!("the key `{}` occurs twice", entry.key)));
            }
            is_new
        });
        for node in merged {
            let sources = match &*node.kind {
                Kind::List(items) => items.as_slice(),
                _ => std::slice::from_ref(node),
            };
            for source in sources {
                let Kind::Map(added) = &*source.kind else {
                    let message = format!(
                        "`<<` takes a mapping or a list of mappings, not {}",
                        source.describe()
                    );
                    self.complaints.push((source.place, message));
                    continue;
                };
                let new = added
                    .iter()
                    .filter(|entry| keys.insert(Rc::clone(&entry.key)));
                entries.extend(new.cloned());
            }
        }
    }

    fn refuse_tag(&mut self, at: Place, tag: Option<&Tag>, allowed: &str) {
        if let Some(tag) = tag
            && !tag.is_yaml_core_schema_tag(allowed)
        {
            self.complaints
                .push((at, format!("the tag `{}` is not supported", tag.original())));
        }
    }
}
