//! Who may use whom (docs/ARCHITECTURE.md), read from the `crate::` paths in the source.

#![allow(clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

const ALLOWED: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("layer", &["sys"]),
    ("overlay", &["layer", "sys"]),
    ("fuse", &["overlay", "sys"]),
    ("image", &["sys"]),
    ("archive", &["image", "layer", "sys"]),
    ("store", &["archive", "image", "layer", "sys"]),
    ("changes", &["archive", "layer", "overlay", "sys"]),
    ("engine", &["image", "sys"]),
    ("mounted", &["fuse", "overlay", "store", "sys"]),
    ("provenance", &["archive", "engine", "image", "layer", "store", "sys"]),
    ("cli", &["archive", "changes", "engine", "fuse", "image", "overlay", "provenance", "store", "sys"]),
];

fn rust_files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("source directory") {
        let path = entry.expect("directory entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The modules named behind `crate::` in a source file.
fn used(source: &str) -> BTreeSet<&str> {
    let code = source.lines().map(str::trim).filter(|l| !l.starts_with("//"));
    code.flat_map(|l| l.split("crate::").skip(1))
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
        .filter(|m| ALLOWED.iter().any(|(name, _)| name == m))
        .collect()
}

#[test]
fn modules_use_only_what_is_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    for (module, below) in ALLOWED {
        let mut files = Vec::new();
        rust_files(&src.join(module), &mut files);
        for file in files {
            let source = std::fs::read_to_string(&file).expect("source file");
            for used in used(&source) {
                checked += 1;
                assert!(used == *module || below.contains(&used), "{} uses {used}", file.display());
            }
            if *module != "fuse" {
                let names = source.lines().any(|l| !l.trim().starts_with("//") && l.contains("fuser::"));
                assert!(!names, "{} names fuser", file.display());
            }
        }
    }
    assert!(checked > 50, "the test found only {checked} uses: it reads the wrong files");
}
