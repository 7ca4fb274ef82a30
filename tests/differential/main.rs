//! Random sequences of operations through laminafs and through kernel overlayfs, over equal stacks.
//!
//!     cargo test --release --test differential -- kernel [--sequences N] [--seed S] [--length L] [--jobs J]
//!                                                        [--scratch DIR] [--failures DIR] [--replay FILE]...
//!                                                        [--options data=passthrough]
//!
//!     cargo test --release --test differential -- model  [--sequences N] [--seed S] [--length L] [--jobs J]
//!                                                        [--scratch DIR] [--failures DIR] [--replay FILE]...
//!
//! Sequence number i has the seed S + i, so any of them can be run again alone. What fails is shrunk and printed as a case,
//! and kept in the directory of `--failures`. With `kernel` it needs root and a kernel with overlayfs.
//!
//! With `model` the same sequences run on the core of laminafs and on a model in memory, without a mount, as any user: what
//! the kernel does above a file system is in `vfs`, the core behind it in `core`, the model in `model`. Without a word, as in
//! a plain `cargo test`, a few of these are run. Under `tests/tier2/without.py` the core makes other whiteouts.

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

mod abilities;
mod calls;
mod case;
mod core;
mod differences;
mod generate;
mod kernel;
mod model;
mod modeled;
mod ops;
mod rng;
mod run;
mod shrink;
mod side;
mod stack;
mod text;
mod tree;
mod vfs;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("kernel") => return kernel::main(args),
        Some("model") => return modeled::main(args),
        // The name of some other test.
        Some(word) if !word.starts_with('-') => return ExitCode::SUCCESS,
        _ => {}
    }
    texts_are_what_they_stand_for();
    println!("differential: {} kinds of operations, texts checked", ops::Op::VERBS.len());
    if modeled::few() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A kept case replays what failed.
fn texts_are_what_they_stand_for() {
    for seed in 0..200 {
        let case = generate::case(seed, 40);
        assert_eq!(case.to_string().parse::<case::Case>(), Ok(case), "seed {seed}");
    }
}
