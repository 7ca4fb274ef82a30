//! Lists the layers of an image: where each is on disk, what it costs, and who shares it.
//!
//!     cargo run --example image_layers -- STORE IMAGE
#![allow(clippy::print_stdout)]

use laminafs::image::format::size3;
use laminafs::store::Store;
use std::error::Error;
use std::io::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, image] = arguments.as_slice() else { return Err("usage: image_layers STORE IMAGE".into()) };
    list(Path::new(store), image, &mut std::io::stdout().lock())
}

/// Writes a line for each layer of `image`, the lowest first.
pub fn list(store: &Path, image: &str, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let store = Store::open(store)?;
    let image = store.find(image)?;
    let images = store.images()?;
    writeln!(out, "{} ({})", image.display(), image.record.id)?;
    // Directories come topmost first, as mounts take them; the record has the lowest first.
    let directories = store.layer_dirs(&image.record, None)?;
    for (layer, directory) in image.record.layers.iter().zip(directories.iter().rev()) {
        let record = store.layer(&layer.chain_id)?.ok_or("the layer went meanwhile")?;
        let users = images.iter().filter(|i| i.record.layers.iter().any(|l| l.chain_id == layer.chain_id)).count();
        let (content, blob) = (size3(record.content), size3(layer.blob_size));
        writeln!(out, "{}  {content} in {} entries, {blob} compressed", layer.chain_id, record.entries)?;
        writeln!(out, "    {}", directory.display())?;
        if users > 1 {
            writeln!(out, "    shared by {users} images")?;
        }
    }
    Ok(())
}
