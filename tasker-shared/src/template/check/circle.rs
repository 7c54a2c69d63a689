//! Circles in a graph given as each node's parents.

/// Circles that share no node, each as the nodes in it so that every one has the next among its parents and the last
/// has the first; they begin with their lowest node. None exactly where the graph is without circles.
pub(super) fn find(parents: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let remaining = nodes_above_no_root(parents);
    let mut state = vec![State::New; parents.len()];
    let mut circles = Vec::new();
    for start in (0..parents.len()).filter(|&node| remaining[node]) {
        // Every remaining node has a remaining parent, so a walk upwards ends only in a node it has seen.
        let mut walk = Vec::new();
        let mut node = start;
        while state[node] == State::New {
            state[node] = State::Walking;
            walk.push(node);
            match parents[node].iter().find(|&&parent| remaining[parent]) {
                Some(&parent) => node = parent,
                None => break,
            }
        }
        if state[node] == State::Walking
            && let Some(first) = walk.iter().position(|&walked| walked == node)
        {
            let mut circle = walk.split_off(first);
            let lowest = circle
                .iter()
                .enumerate()
                .min_by_key(|(_, node)| **node)
                .map_or(0, |(at, _)| at);
            circle.rotate_left(lowest);
            for &member in &circle {
                state[member] = State::Done;
            }
            if circle.len() > 1 {
                circles.push(circle);
            }
        }
        for walked in walk {
            state[walked] = State::Done;
        }
    }
    circles
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Walking,
    Done,
}

/// Marks what is left when, again and again, nodes without remaining parents are taken away.
fn nodes_above_no_root(parents: &[Vec<usize>]) -> Vec<bool> {
    let mut children = vec![Vec::new(); parents.len()];
    let mut waiting: Vec<usize> = parents.iter().map(Vec::len).collect();
    for (child, parents) in parents.iter().enumerate() {
        for &parent in parents {
            children[parent].push(child);
        }
    }
    let mut free: Vec<usize> = (0..parents.len())
        .filter(|&node| waiting[node] == 0)
        .collect();
    let mut remaining = vec![true; parents.len()];
    while let Some(node) = free.pop() {
        remaining[node] = false;
        for &child in &children[node] {
            waiting[child] -= 1;
            if waiting[child] == 0 {
                free.push(child);
            }
        }
    }
    remaining
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn each_circle_is_found_once_and_begins_with_its_lowest_node() {
        type Nodes = [&'static [usize]];
        let cases: [(&Nodes, &Nodes); 7] = [
            (&[], &[]),
            (&[&[], &[0], &[0], &[1, 2]], &[]),
            (&[&[1], &[0]], &[&[0, 1]]),
            (&[&[], &[3, 0], &[1], &[2]], &[&[1, 3, 2]]),
            // Below a circle hangs a line that is in none.
            (&[&[1], &[0], &[1], &[2]], &[&[0, 1]]),
            (&[&[1], &[0], &[3], &[2, 0]], &[&[0, 1], &[2, 3]]),
            // A dependency named twice changes nothing.
            (&[&[], &[0, 0], &[1, 1]], &[]),
        ];
        for (parents, expected) in cases {
            let parents: Vec<Vec<usize>> = parents.iter().map(|parents| parents.to_vec()).collect();
            assert_eq!(find(&parents), expected, "{parents:?}");
        }
    }

    #[test]
    fn a_circle_of_a_hundred_thousand_is_found_without_recursion() {
        let count = 100_000;
        let parents: Vec<Vec<usize>> = (0..count).map(|node| vec![(node + 1) % count]).collect();
        assert_eq!(find(&parents)[0].len(), count);
    }
}
