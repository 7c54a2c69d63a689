//! Steps in layers, each one below all its parents, in an order in which few lines cross. A line that
//! skips a layer passes through it as an item of its own, one for all the lines of a parent.

use super::Diagram;

/// Sweeps over the layers after which the order hardly improves.
const SWEEPS: usize = 8;

/// What has a place in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// The box of this node.
    Step(usize),
    /// The lines of one parent on their way to a layer further down.
    Pass,
}

/// The items of each layer from left to right, and what is linked between a layer and the next.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    pub(super) items: Vec<Vec<Item>>,
    /// `links[n]`: an item of layer n by its place, and an item of layer n + 1 by its place.
    pub(super) links: Vec<Vec<(usize, usize)>>,
}

/// The layers of a diagram.
pub(super) fn of(diagram: &Diagram) -> Layers {
    let depth = depths(diagram);
    let mut layers = laid_out(diagram, &depth);
    layers.untangle();
    layers
}

/// How many layers are above each node: the length of the longest way down to it.
pub(super) fn depths(diagram: &Diagram) -> Vec<usize> {
    let nodes = &diagram.nodes;
    let mut children = vec![Vec::new(); nodes.len()];
    let mut waiting: Vec<usize> = nodes.iter().map(|node| node.parents.len()).collect();
    for (at, node) in nodes.iter().enumerate() {
        for &parent in &node.parents {
            children[parent].push(at);
        }
    }
    let mut depth = vec![0; nodes.len()];
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|&at| waiting[at] == 0).collect();
    while let Some(at) = ready.pop() {
        for &child in &children[at] {
            depth[child] = depth[child].max(depth[at] + 1);
            waiting[child] -= 1;
            if waiting[child] == 0 {
                ready.push(child);
            }
        }
    }
    depth
}

fn laid_out(diagram: &Diagram, depth: &[usize]) -> Layers {
    let count = depth.iter().max().map_or(0, |deepest| deepest + 1);
    let mut items = vec![Vec::new(); count];
    let mut place = vec![0; depth.len()];
    for (at, &layer) in depth.iter().enumerate() {
        place[at] = items[layer].len();
        items[layer].push(Item::Step(at));
    }
    let mut links = vec![Vec::new(); count.saturating_sub(1)];
    for parent in 0..depth.len() {
        let children: Vec<usize> = (0..depth.len())
            .filter(|&at| diagram.nodes[at].parents.contains(&parent))
            .collect();
        let Some(last) = children.iter().map(|&child| depth[child]).max() else {
            continue;
        };
        let mut from = place[parent];
        for layer in depth[parent]..last {
            let here = children.iter().filter(|&&child| depth[child] == layer + 1);
            links[layer].extend(here.map(|&child| (from, place[child])));
            if layer + 1 < last {
                items[layer + 1].push(Item::Pass);
                let pass = items[layer + 1].len() - 1;
                links[layer].push((from, pass));
                from = pass;
            }
        }
    }
    Layers { items, links }
}

impl Layers {
    /// Orders each layer by where its neighbours stand, down and up in turn, and keeps the best.
    fn untangle(&mut self) {
        let mut best = self.clone();
        let mut fewest = best.crossings();
        for sweep in 0..SWEEPS {
            if fewest == 0 {
                break;
            }
            if sweep % 2 == 0 {
                for layer in 1..self.items.len() {
                    self.reorder(layer, Side::Above);
                }
            } else {
                for layer in (0..self.items.len().saturating_sub(1)).rev() {
                    self.reorder(layer, Side::Below);
                }
            }
            let crossings = self.crossings();
            if crossings < fewest {
                fewest = crossings;
                best = self.clone();
            }
        }
        *self = best;
    }

    /// The places of the items linked to each item of a layer, in the layer above or below it.
    pub(super) fn neighbours(&self, layer: usize, side: Side) -> Vec<Vec<usize>> {
        let mut found = vec![Vec::new(); self.items[layer].len()];
        match side {
            Side::Above if layer > 0 => {
                for &(above, here) in &self.links[layer - 1] {
                    found[here].push(above);
                }
            }
            Side::Below if layer < self.links.len() => {
                for &(here, below) in &self.links[layer] {
                    found[here].push(below);
                }
            }
            _ => {}
        }
        found
    }

    /// Sorts a layer by the mean place of its neighbours; an item without any keeps its place.
    fn reorder(&mut self, layer: usize, side: Side) {
        let neighbours = self.neighbours(layer, side);
        let mut order: Vec<(f64, usize)> = neighbours
            .iter()
            .enumerate()
            .map(|(at, near)| (mean(near.iter().copied()).unwrap_or(at as f64), at))
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));

        let mut moved_to = vec![0; order.len()];
        for (to, &(_, from)) in order.iter().enumerate() {
            moved_to[from] = to;
        }
        self.items[layer] = order
            .iter()
            .map(|&(_, from)| self.items[layer][from])
            .collect();
        if layer > 0 {
            for link in &mut self.links[layer - 1] {
                link.1 = moved_to[link.1];
            }
        }
        if let Some(links) = self.links.get_mut(layer) {
            for link in links {
                link.0 = moved_to[link.0];
            }
        }
    }

    fn crossings(&self) -> usize {
        let of_layer = |links: &Vec<(usize, usize)>| -> usize {
            links
                .iter()
                .enumerate()
                .map(|(at, a)| {
                    let others = links[at + 1..].iter();
                    others
                        .filter(|b| (a.0 < b.0 && a.1 > b.1) || (a.0 > b.0 && a.1 < b.1))
                        .count()
                })
                .sum()
        };
        self.links.iter().map(of_layer).sum()
    }
}

/// On which side of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Above,
    Below,
}

/// The mean of some places; `None` for none.
pub(super) fn mean(places: impl Iterator<Item = usize>) -> Option<f64> {
    let (sum, count) = places.fold((0.0, 0_u32), |(sum, count), place| {
        (sum + place as f64, count + 1)
    });
    (count > 0).then(|| sum / f64::from(count))
}
