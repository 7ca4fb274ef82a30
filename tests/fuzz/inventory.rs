//! The reader of inventories: whatever the bytes are, they become objects in the order of their names, or nothing.
//!
//! The input is what comes behind the checksum, which is made right here.

#![no_main]

use laminafs::image::Digest;
use laminafs::layer::markers;
use laminafs::layer::xattr::Attributes;
use laminafs::store::Inventory;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|body: &[u8]| -> Corpus {
    let bytes = [&b"laminafs inventory 1\n"[..], Digest::of(body).bytes(), body].concat();
    let Some(inventory) = Inventory::parse(bytes) else { return Corpus::Reject };
    let mut blocks = inventory.blocks();
    while !blocks.is_at_end() {
        let Some(objects) = blocks.next() else { break };
        assert!(objects.is_sorted_by(|a, b| a.name < b.name));
        for object in objects {
            let mut listed = 0;
            let named = object.attributes.each_name(&mut |_| {
                listed += 1;
                Ok(())
            });
            assert!(named.is_ok() && listed <= body.len());
            // What they say may be wrong.
            drop((markers::dir_markers(object.attributes), markers::read_file_markers(object.attributes)));
        }
    }
    Corpus::Keep
});
