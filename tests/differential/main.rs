//! Random sequences of operations through laminafs and through kernel overlayfs, over equal stacks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod case;
mod generate;
mod ops;
mod rng;
mod text;

fn main() {
    for seed in 0..200 {
        let case = generate::case(seed, 40);
        let text = case.to_string();
        assert_eq!(text.parse::<case::Case>(), Ok(case), "the text of a case does not say what the case is");
    }
    println!(
        "{}\n{} kinds",
        generate::case(std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1), 40),
        ops::Op::VERBS.len()
    );
}
