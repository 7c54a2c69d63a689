//! The columns of every item: as near to below its parents and above its children as its neighbours
//! in the layer allow.

use super::Diagram;
use super::layers::{Item, Layers, Side};

/// Free columns between two items.
const GAP: usize = 2;
/// A passing line takes one column; the two beside it let it be joined from either side.
const PASS_COLUMNS: usize = 3;
/// Rounds after which the columns hardly move any more.
const ROUNDS: usize = 12;

/// An item with its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) item: Item,
    pub(super) left: usize,
    pub(super) width: usize,
}

impl Spot {
    /// The column in its middle.
    pub(super) fn centre(&self) -> usize {
        self.left + self.width / 2
    }
}

/// The layers with columns.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) layers: Vec<Vec<Spot>>,
    pub(super) links: Vec<Vec<(usize, usize)>>,
}

impl Placed {
    /// The columns of the whole drawing.
    pub(super) fn columns(&self) -> usize {
        let spots = self.layers.iter().flatten();
        spots.map(|spot| spot.left + spot.width).max().unwrap_or(0)
    }
}

/// Gives every item its columns.
pub(super) fn of(layers: &Layers, diagram: &Diagram) -> Placed {
    let widths: Vec<Vec<usize>> = layers
        .items
        .iter()
        .map(|layer| layer.iter().map(|item| width(item, diagram)).collect())
        .collect();
    let mut lefts: Vec<Vec<f64>> = widths
        .iter()
        .map(|widths| settled(&vec![0.0; widths.len()], widths))
        .collect();
    for round in 0..ROUNDS {
        let down = round % 2 == 0;
        for at in 0..widths.len() {
            let layer = if down { at } else { widths.len() - 1 - at };
            let sides: &[Side] = match round {
                // The last two rounds weigh both sides, or the layers would lean to one.
                _ if round + 2 >= ROUNDS => &[Side::Above, Side::Below],
                _ if down => &[Side::Above],
                _ => &[Side::Below],
            };
            let wished = wishes(layers, &widths, &lefts, layer, sides);
            lefts[layer] = settled(&wished, &widths[layer]);
        }
    }
    let first = lefts
        .iter()
        .flatten()
        .copied()
        .fold(f64::INFINITY, f64::min);
    let spots = |layer: usize| {
        let items = layers.items[layer].iter().zip(&widths[layer]);
        items
            .zip(&lefts[layer])
            .map(|((&item, &width), left)| Spot {
                item,
                left: whole(left - first),
                width,
            })
            .collect()
    };
    Placed {
        layers: (0..widths.len()).map(spots).collect(),
        links: layers.links.clone(),
    }
}

fn width(item: &Item, diagram: &Diagram) -> usize {
    match item {
        Item::Step(node) => diagram.nodes[*node].box_columns(),
        Item::Pass => PASS_COLUMNS,
    }
}

/// Where the items of a layer would stand if each were alone: in the middle of its neighbours.
fn wishes(
    layers: &Layers,
    widths: &[Vec<usize>],
    lefts: &[Vec<f64>],
    layer: usize,
    sides: &[Side],
) -> Vec<f64> {
    let mut centres: Vec<Vec<f64>> = vec![Vec::new(); widths[layer].len()];
    for &side in sides {
        let other = match side {
            Side::Above => layer.wrapping_sub(1),
            Side::Below => layer + 1,
        };
        for (here, near) in layers.neighbours(layer, side).into_iter().enumerate() {
            centres[here].extend(
                near.iter()
                    .map(|&at| lefts[other][at] + half(widths[other][at])),
            );
        }
    }
    let wish = |here: usize| match centres[here].len() {
        0 => lefts[layer][here],
        count => centres[here].iter().sum::<f64>() / count as f64 - half(widths[layer][here]),
    };
    (0..widths[layer].len()).map(wish).collect()
}

/// The columns nearest to the wished ones at which nothing overlaps: neighbours whose wishes collide
/// are joined to a block that stands where its members wish it on average.
fn settled(wished: &[f64], widths: &[usize]) -> Vec<f64> {
    struct Block {
        sum: f64,
        count: f64,
        members: usize,
    }
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(widths.len());
    let mut blocks: Vec<Block> = Vec::new();
    for (wish, width) in wished.iter().zip(widths) {
        offsets.push(offset);
        let mut block = Block {
            sum: wish - offset,
            count: 1.0,
            members: 1,
        };
        while let Some(before) =
            blocks.pop_if(|last| last.sum / last.count >= block.sum / block.count)
        {
            block.sum += before.sum;
            block.count += before.count;
            block.members += before.members;
        }
        blocks.push(block);
        offset += (width + GAP) as f64;
    }
    let bases = blocks
        .iter()
        .flat_map(|block| std::iter::repeat_n(block.sum / block.count, block.members));
    bases
        .zip(offsets)
        .map(|(base, offset)| base + offset)
        .collect()
}

/// As [`Spot::centre`] counts.
fn half(width: usize) -> f64 {
    (width / 2) as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(column: f64) -> usize {
    column.round().max(0.0) as usize
}
