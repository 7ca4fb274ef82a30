//! The reader of layers: whatever the bytes are, they become a layer or an error, and nothing outside the layer changes.
//!
//! The input is a blob and one more byte, which says in which form it is unpacked, and over what. Half of the changes that
//! the fuzzer makes are made by `mutate.rs`, which knows what a tar header looks like and keeps its checksum right.

#![no_main]

mod mutate;
mod place;

use laminafs::archive::{Expected, Limits, Options, complete, digests, unpack};
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};
use place::Place;
use std::os::fd::AsFd;
use std::sync::LazyLock;

static PLACE: LazyLock<Place> = LazyLock::new(Place::new);

/// Small enough for thousands of rounds a second, large enough that every limit can be met.
fn limits() -> Limits {
    Limits { entries: 500, bytes: 4 << 20, metadata: 64 << 10, sparse: 100, depth: 40, ..Limits::default() }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((mode, blob)) = data.split_last() else { return Corpus::Reject };
    let limits = limits();
    let place = &*PLACE;
    let layer = place.layer();
    let form = place.form(mode & 1 != 0);
    let options = Options { form, expected: Expected::default(), limits: &limits, progress: None };
    let result = unpack(blob, layer.as_fd(), &options).and_then(|unpacked| {
        if mode & 4 != 0 {
            let again = digests(blob, Expected::default(), &limits).expect("it could be read before");
            assert_eq!(unpacked.digests, again);
        }
        let below = place.below(form, mode & 2 != 0);
        complete(layer.as_fd(), &below, form, unpacked.pending)
    });
    match result {
        Ok(()) => place.check_layer(form),
        Err(e) => assert!(!e.to_string().chars().any(char::is_control), "{e:?}"),
    }
    place.check_outside();
    Corpus::Keep
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::archive(data, size, max_size, seed)
});
