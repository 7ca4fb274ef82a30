//! Things done at random, in several layers one over the other.

use super::apply::check_round_trip;
use super::cases::put_under;
use super::differ;
use super::fixture::{Op, act, op, stack};
use proptest::prelude::*;

/// Runs every list of things on a new upper directory over the layers that the lists before became.
pub fn check(sessions: &[Vec<Op>], override_stat: bool) {
    let mut stack = stack();
    stack.options.override_stat |= override_stat;
    let mut layers = Vec::new();
    for session in sessions {
        let fs = stack.mount();
        session.iter().filter(|op| act(&fs, **op).is_ok()).for_each(drop);
        drop(fs);
        let layer = check_round_trip(&stack);
        differ::check(&stack);
        put_under(&mut stack, layer.path());
        layers.push(layer);
    }
}

/// As many as are asked for, else what takes half a minute.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_layer_made_of_the_changes_shows_what_the_union_showed(
        sessions in prop::collection::vec(prop::collection::vec(op(), 0..10), 1..3),
        override_stat in any::<bool>(),
    ) {
        check(&sessions, override_stat);
    }
}
