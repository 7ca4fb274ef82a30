//! The smallest case that still fails in the same way.

use super::case::Case;

/// Leaves out parts as long as `fails` says that the rest fails, with at most `budget` trials.
pub fn shrink(case: &Case, mut budget: usize, fails: &mut dyn FnMut(&Case) -> bool) -> Case {
    let mut best = case.clone();
    loop {
        let before = size(&best);
        let mut part = best.steps.len();
        while part > 0 && budget > 0 {
            best = without_parts(best, part, &mut budget, fails, |case| &mut case.steps);
            part /= 2;
        }
        for layer in (0..best.layers.len()).rev() {
            best = without_layer(best, layer, &mut budget, fails);
        }
        for layer in 0..best.layers.len() {
            let mut part = best.layers[layer].len();
            while part > 0 && budget > 0 {
                best = without_parts(best, part, &mut budget, fails, |case| &mut case.layers[layer]);
                part /= 2;
            }
        }
        if size(&best) == before || budget == 0 {
            return best;
        }
    }
}

fn size(case: &Case) -> usize {
    case.steps.len() + case.layers.iter().map(|layer| layer.len() + 1).sum::<usize>()
}

fn without_layer(best: Case, layer: usize, budget: &mut usize, fails: &mut dyn FnMut(&Case) -> bool) -> Case {
    if best.layers.len() < 2 || *budget == 0 {
        return best;
    }
    let mut smaller = best.clone();
    smaller.layers.remove(layer);
    *budget -= 1;
    if fails(&smaller) { smaller } else { best }
}

/// Tries to leave out each run of `part` elements, from the end.
fn without_parts<T>(
    mut best: Case,
    part: usize,
    budget: &mut usize,
    fails: &mut dyn FnMut(&Case) -> bool,
    list: impl Fn(&mut Case) -> &mut Vec<T>,
) -> Case {
    let mut end = list(&mut best).len();
    while end > 0 && *budget > 0 {
        let start = end.saturating_sub(part);
        let mut smaller = best.clone();
        list(&mut smaller).drain(start..end);
        *budget -= 1;
        if fails(&smaller) {
            best = smaller;
        }
        end = start;
    }
    best
}
