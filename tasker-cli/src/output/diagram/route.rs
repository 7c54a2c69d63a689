//! The lines between two layers. Parents that share all their children share one horizontal line, a
//! bus, on a row that no other bus uses in the same columns. No column is used by two buses unless
//! they end in the same child, so a line can always be told from the one it crosses.

use std::collections::BTreeMap;

use super::layers::Item;
use super::place::{Placed, Spot};

/// One horizontal line with everything that hangs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bus {
    /// Columns at which lines come from above.
    pub(super) from: Vec<usize>,
    /// Columns at which lines go down.
    pub(super) to: Vec<usize>,
    /// The row between the layers; `None` for a straight line down, which needs none.
    pub(super) track: Option<usize>,
}

impl Bus {
    /// Its first and its last column.
    pub(super) fn span(&self) -> (usize, usize) {
        let columns = || self.from.iter().chain(&self.to).copied();
        (columns().min().unwrap_or(0), columns().max().unwrap_or(0))
    }
}

/// The lines between a layer and the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) buses: Vec<Bus>,
    /// Rows it needs.
    pub(super) tracks: usize,
    /// The column at which each item of the lower layer is entered.
    pub(super) entries: Vec<Option<usize>>,
    /// The column at which each item of the upper layer is left.
    pub(super) exits: Vec<usize>,
}

/// The lines between all layers, from top to bottom.
pub(super) fn of(placed: &Placed) -> Vec<Channel> {
    let mut channels: Vec<Channel> = Vec::with_capacity(placed.links.len());
    for (layer, links) in placed.links.iter().enumerate() {
        let entered = channels.last().map(|channel| &channel.entries[..]);
        let exits = exits(&placed.layers[layer], entered);
        channels.push(channel(exits, &placed.layers[layer + 1], links));
    }
    channels
}

/// A box is left in its middle, a passing line where it came in.
fn exits(spots: &[Spot], entered: Option<&[Option<usize>]>) -> Vec<usize> {
    let exit = |(at, spot): (usize, &Spot)| match (spot.item, entered) {
        (Item::Pass, Some(entered)) => entered[at].unwrap_or_else(|| spot.centre()),
        _ => spot.centre(),
    };
    spots.iter().enumerate().map(exit).collect()
}

fn channel(exits: Vec<usize>, below: &[Spot], links: &[(usize, usize)]) -> Channel {
    let groups = groups(links);
    let entries: Vec<Option<usize>> = (0..below.len())
        .map(|child| entry(child, &below[child], &groups, &exits))
        .collect();
    let mut buses: Vec<Bus> = groups
        .iter()
        .map(|group| Bus {
            from: group.parents.iter().map(|&at| exits[at]).collect(),
            to: group
                .children
                .iter()
                .filter_map(|&at| entries[at])
                .collect(),
            track: None,
        })
        .collect();
    let tracks = give_tracks(&mut buses);
    Channel {
        buses,
        tracks,
        entries,
        exits,
    }
}

/// Parents with the same children.
struct Group {
    parents: Vec<usize>,
    children: Vec<usize>,
}

fn groups(links: &[(usize, usize)]) -> Vec<Group> {
    let mut children_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &(parent, child) in links {
        children_of.entry(parent).or_default().push(child);
    }
    let mut parents_of: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for (parent, mut children) in children_of {
        children.sort_unstable();
        parents_of.entry(children).or_default().push(parent);
    }
    parents_of
        .into_iter()
        .map(|(children, parents)| Group { parents, children })
        .collect()
}

/// Where a child is entered: straight below its parent where it has one that has no other child,
/// otherwise as near to its middle as no other line comes down.
fn entry(child: usize, spot: &Spot, groups: &[Group], exits: &[usize]) -> Option<usize> {
    let mine: Vec<&Group> = groups
        .iter()
        .filter(|group| group.children.contains(&child))
        .collect();
    let only = match mine.as_slice() {
        [] => return None,
        [only] => Some(*only),
        _ => None,
    };
    let frame = usize::from(matches!(spot.item, Item::Step(_)));
    let inside =
        |column: &usize| *column >= spot.left + frame && *column + frame < spot.left + spot.width;
    if let Some(Group { parents, children }) = only
        && let ([parent], [_]) = (parents.as_slice(), children.as_slice())
        && let Some(below) = Some(exits[*parent]).filter(inside)
    {
        return Some(below);
    }
    let may_stand_below = |parent: usize| only.is_some_and(|only| only.parents.contains(&parent));
    let linked = |parent: &usize| groups.iter().any(|group| group.parents.contains(parent));
    let taken = |column: usize| {
        let mut others = (0..exits.len()).filter(linked);
        others.any(|parent| exits[parent] == column && !may_stand_below(parent))
    };
    let centre = spot.centre();
    let nearby = (0..spot.width).flat_map(|by| [centre + by, centre.saturating_sub(by)]);
    nearby
        .filter(inside)
        .find(|&column| !taken(column))
        .or(Some(centre))
}

/// Puts every bus that is not a straight line on the first row that is free in its columns; the
/// number of rows used.
fn give_tracks(buses: &mut [Bus]) -> usize {
    let mut order: Vec<usize> = (0..buses.len()).collect();
    order.sort_by_key(|&at| buses[at].span());
    let mut ends: Vec<usize> = Vec::new();
    for at in order {
        let (first, last) = buses[at].span();
        if first == last {
            continue;
        }
        let free = ends.iter().position(|&end| end < first);
        let track = free.unwrap_or(ends.len());
        match ends.get_mut(track) {
            Some(end) => *end = last,
            None => ends.push(last),
        }
        buses[at].track = Some(track);
    }
    ends.len()
}
