//! Random sequences of operations through laminafs and through kernel overlayfs, over equal stacks.
//!
//!     cargo test --release --test differential -- kernel [--sequences N] [--seed S] [--length L] [--jobs J]
//!                                                        [--scratch DIR] [--failures DIR] [--replay FILE]...
//!
//! Needs root and a kernel with overlayfs. Sequence number i has the seed S + i, so any of them can be run again alone.
//! What fails is shrunk and printed as a case, and kept in the directory of `--failures`. Without the word `kernel`, as in a
//! plain `cargo test`, only what needs no mount is run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unsafe_code,
    clippy::macro_metavars_in_unsafe,
    reason = "tests, which make system calls as they are"
)]

mod calls;
mod case;
mod differences;
mod generate;
mod kernel;
mod ops;
mod rng;
mod run;
mod shrink;
mod side;
mod stack;
mod text;
mod tree;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("kernel") {
        return kernel::main(args);
    }
    texts_are_what_they_stand_for();
    println!("differential: {} kinds of operations, texts checked", ops::Op::VERBS.len());
    ExitCode::SUCCESS
}

/// A kept case replays what failed.
fn texts_are_what_they_stand_for() {
    for seed in 0..200 {
        let case = generate::case(seed, 40);
        assert_eq!(case.to_string().parse::<case::Case>(), Ok(case), "seed {seed}");
    }
}
