//! Checking a layer: its record, its directory and its inventory.

use super::Store;
use super::error::{Error, Result};
use super::inventory::{self, FILE, Inventory};
use super::lock::{Key, Locks};
use super::record::LayerRecord;
use super::temp::Temp;
use super::tree::{self, Facts};
use super::verify::{Fault, Object};
use crate::image::digest::ChainId;
use crate::sys::{self, LockKind};

/// What was found, and done.
#[derive(Default)]
pub(super) struct CheckedLayer {
    pub fault: Option<Fault>,
    /// It got an inventory.
    pub mended: bool,
}

/// Looks at a layer. It cannot go meanwhile; one that is just being made or removed is passed over. With `mend` a sound one gets an
/// inventory if it has none that is right.
pub(super) fn check_layer(store: &Store, locks: &Locks, chain: &ChainId, mend: bool) -> Result<CheckedLayer> {
    let Some(_pin) = locks.try_lock(Key::layer(chain), LockKind::Shared)? else { return Ok(CheckedLayer::default()) };
    let Some(record) = store.layer(chain).transpose() else { return Ok(CheckedLayer::default()) };
    match check_directory(store, chain, record)? {
        Ok((record, facts)) => check_inventory(store, locks, (&record, &facts), mend),
        Err(what) => {
            let path = store.layers()?.at(chain.0.hex());
            Ok(CheckedLayer { fault: Some(Fault { path, what, object: Object::Layer(*chain) }), mended: false })
        }
    }
}

/// What is recorded and in the directory, or what is wrong with that.
fn check_directory(
    store: &Store,
    chain: &ChainId,
    record: Result<LayerRecord>,
) -> Result<std::result::Result<(LayerRecord, Facts), String>> {
    let record = match record {
        Ok(record) => record,
        Err(Error::Damaged { why, .. }) => return Ok(Err(why)),
        Err(e) if e.is(sys::Errno::NOTDIR) => return Ok(Err("it is not a directory".into())),
        Err(e) => return Err(e),
    };
    let below = record.parent.map_or_else(|| ChainId::base(record.diff_id), |p| p.with(record.diff_id));
    if record.chain_id != *chain || below != *chain {
        return Ok(Err("its record is that of another layer".into()));
    }
    if let Some(parent) = record.parent.filter(|p| !store.layers().and_then(|l| l.has(p.0.hex())).unwrap_or(true)) {
        return Ok(Err(format!("the layer {parent} below it is missing")));
    }
    let facts = store.layers()?.open(format!("{}/diff", chain.0.hex())).and_then(|dir| tree::facts(&dir, &store.stop));
    Ok(match facts {
        Err(e) if e.is_of_the_process() => return Err(e),
        Err(e) => Err(format!("it cannot be read: {e}")),
        Ok(facts) if facts.entries != record.entries => {
            Err(format!("it has {} entries, {} were unpacked", facts.entries, record.entries))
        }
        Ok(facts) if facts.content != record.content => {
            Err(format!("its files have {} bytes, {} were unpacked", facts.content, record.content))
        }
        Ok(facts) if facts.tree != record.tree => {
            Err("a name, an attribute or the contents of a file changed after it was unpacked".into())
        }
        Ok(facts) => Ok((record, facts)),
    })
}

/// Looks at the inventory of a sound layer. Layers of older programs have none.
fn check_inventory(
    store: &Store,
    locks: &Locks,
    (record, facts): (&LayerRecord, &Facts),
    mend: bool,
) -> Result<CheckedLayer> {
    let dir = store.layers()?.open(record.chain_id.0.hex())?;
    let mut what = match Inventory::read(&dir, facts.entries) {
        Ok(Some(found)) if found.tree() == facts.tree && found.listing() == facts.listing => {
            return Ok(CheckedLayer::default());
        }
        Ok(Some(_)) => Some("it does not list what is in the directory of the layer".to_owned()),
        Ok(None) => None,
        Err(Error::Damaged { why, .. }) => Some(why),
        Err(e) if e.is_of_the_process() => return Err(e),
        Err(e) => Some(format!("it cannot be read: {e}")),
    };
    let replace = || inventory::replace(&Temp::new(&store.root, locks)?.dir, &dir, facts);
    let mended = match mend.then(replace) {
        None => false,
        Some(Ok(())) => true,
        // As on a full disk, where other repairs need no space.
        Some(Err(e)) => {
            what = what.map(|what| format!("{what}, and it cannot be made anew: {e}"));
            false
        }
    };
    let fault = |what| Fault { path: dir.at(FILE), what, object: Object::Inventory(record.chain_id) };
    Ok(CheckedLayer { fault: what.map(fault), mended })
}
