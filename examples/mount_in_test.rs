//! How a test gets a root file system that it may spoil: a mount that ends with a value, also when the test panics.
//!
//!     cargo run --example mount_in_test                    on directories that it makes
//!     cargo run --example mount_in_test -- STORE IMAGE     on an image that was loaded with `laminafs --root STORE load`
//!
//! Needs root or fusermount3. In a project of your own, `check` would be the body of a `#[test]`.
#![allow(clippy::print_stdout)]

use laminafs::mounted::Mounted;
use laminafs::store::Store;
use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Mounts what the arguments name, tests on it, and shows that nothing is left.
pub fn run(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    let layers = tempfile::tempdir()?;
    let root = match arguments {
        [store, image] => Mounted::image(&Store::open(Path::new(store))?, image)?,
        _ => Mounted::directories(make_layers(layers.path())?)?,
    };
    let path = root.path().to_owned();
    check(&root)?;
    drop(root);
    println!("{} is gone, and with it what the test did", path.display());
    if path.exists() {
        return Err("the mount is still there".into());
    }
    Ok(())
}

/// The test: the program does to a root file system what it should.
fn check(root: &Mounted) -> Result<(), Box<dyn Error>> {
    let before: Vec<_> = fs::read_dir(root.path())?.collect::<Result<_, _>>()?;
    program_under_test(root.path())?;
    assert_eq!(fs::read_to_string(root.path().join("srv/www/index.html"))?, "hello\n");
    for entry in before {
        assert!(!entry.path().exists(), "{} was to be removed", entry.path().display());
    }
    // Only what was changed is in the upper directory; the layers are as they were.
    println!("the test wrote {} names into {}", fs::read_dir(root.upper())?.count(), root.upper().display());
    Ok(())
}

/// Something that nobody would run on his own root directory.
fn program_under_test(root: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }?;
    }
    fs::create_dir_all(root.join("srv/www"))?;
    fs::write(root.join("srv/www/index.html"), "hello\n")
}

/// Two layers, the topmost first.
fn make_layers(dir: &Path) -> std::io::Result<[std::path::PathBuf; 2]> {
    let layers = ["app", "base"].map(|name| dir.join(name));
    for layer in &layers {
        fs::create_dir_all(layer.join("etc"))?;
        fs::write(layer.join("etc/name"), layer.display().to_string())?;
    }
    Ok(layers)
}
