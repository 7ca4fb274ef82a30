//! The options of a mount that only a new mount can change, written as an option string again.
//!
//! A mount tells them (`user.laminafs.options`), and a remount compares them with what it is asked for.

use super::MountOptions;
use crate::fuse::{Data, IdMap};
use crate::overlay::RedirectMode;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest value of an extended attribute (`XATTR_SIZE_MAX`).
const LONGEST: usize = 65_536;

/// An option by the name that a message has for it, and as it is written; empty where it is not.
type Element = (&'static str, Vec<u8>);

impl MountOptions {
    /// These options, which [`MountOptions::apply`] understands. Layers that would make the text too long for an extended
    /// attribute are left out.
    #[must_use]
    pub fn fixed_text(&self) -> Vec<u8> {
        let join = |elements: &[Element]| {
            let written: Vec<&[u8]> = elements.iter().map(|e| &e.1[..]).filter(|e| !e.is_empty()).collect();
            written.join(&b","[..])
        };
        let elements = self.fixed();
        let text = join(&elements);
        if text.len() <= LONGEST { text } else { join(&elements[1..]) }
    }

    /// The names of those that are not as in `other`.
    #[must_use]
    pub fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        self.fixed().iter().zip(other.fixed()).filter(|(mine, its)| mine.1 != its.1).map(|(mine, _)| mine.0).collect()
    }

    /// All of them in one order, lower layers first.
    fn fixed(&self) -> Vec<Element> {
        let switch = |on: bool, text: &str| if on { text.into() } else { Vec::new() };
        let either = |on: bool, text: &str, other: &str| Vec::from(if on { text } else { other });
        let redirect = match self.redirect {
            RedirectMode::Auto => "",
            RedirectMode::On => "redirect_dir=on",
            RedirectMode::Follow => "redirect_dir=follow",
            RedirectMode::NoFollow => "redirect_dir=nofollow",
            RedirectMode::Off => "redirect_dir=off",
        };
        let owners = match (self.override_stat, self.privileged_stat) {
            (false, _) => "xattr_permissions=0",
            (true, true) => "xattr_permissions=1",
            (true, false) => "xattr_permissions=2",
        };
        let passed_through = self.data == Data::Passthrough;
        vec![
            ("lowerdir=", self.lowerdir()),
            ("upperdir=", self.upper.as_ref().map(|path| element("upperdir", bytes(path))).unwrap_or_default()),
            ("workdir=", self.work.as_ref().map(|path| element("workdir", bytes(path))).unwrap_or_default()),
            ("redirect_dir=", redirect.into()),
            ("index=", either(self.index, "index=on", "index=off")),
            ("volatile", switch(self.volatile, "volatile")),
            ("xattr_permissions=", owners.into()),
            ("userxattr", switch(self.userxattr, "userxattr")),
            ("writeback=", either(self.writeback, "writeback=1", "writeback=0")),
            ("data=", either(passed_through, "data=passthrough", "data=cache")),
            ("uidmapping=", mapping("uidmapping", &self.ids.users)),
            ("gidmapping=", mapping("gidmapping", &self.ids.groups)),
            ("squash_to_*=", self.squash()),
            ("allow_other", either(self.allow_other, "allow_other", "no_allow_other")),
            ("default_permissions", either(self.default_permissions, "default_permissions", "no_default_permissions")),
            ("dirsync", switch(self.dir_sync, "dirsync")),
            ("fsname=", element("fsname", self.fsname.as_bytes())),
            ("subtype=", element("subtype", self.subtype.as_bytes())),
        ]
    }

    fn lowerdir(&self) -> Vec<u8> {
        let mut text = b"lowerdir=".to_vec();
        for (n, (path, separator)) in
            self.lower.iter().map(|path| (path, ":")).chain(self.data_only.iter().map(|path| (path, "::"))).enumerate()
        {
            text.extend(if n == 0 { "" } else { separator }.bytes());
            text.extend(escaped(bytes(path), b"\\,:"));
        }
        if self.lower.is_empty() { Vec::new() } else { text }
    }

    fn squash(&self) -> Vec<u8> {
        let part = |name: &str, map: &IdMap| map.squash.map(|id| format!("{name}={id}"));
        let parts = [part("squash_to_uid", &self.ids.users), part("squash_to_gid", &self.ids.groups)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(",").into()
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn element(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b"=", &escaped(value, b"\\,")].concat()
}

fn escaped(text: &[u8], special: &[u8]) -> Vec<u8> {
    let with_backslash = |&byte: &u8| special.contains(&byte).then_some(b'\\').into_iter().chain([byte]);
    text.iter().flat_map(with_backslash).collect()
}

fn mapping(name: &str, map: &IdMap) -> Vec<u8> {
    let ranges: Vec<_> = map.ranges.iter().map(|r| format!("{}:{}:{}", r.disk, r.shown, r.count)).collect();
    if ranges.is_empty() { Vec::new() } else { format!("{name}={}", ranges.join(":")).into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn parsed(text: &[u8]) -> MountOptions {
        let mut options = MountOptions::defaults(true);
        options.apply(OsStr::from_bytes(text)).unwrap();
        options
    }

    #[test]
    fn what_is_written_is_understood_again() {
        for text in [
            &b"lowerdir=/a\\:b:/c\\,d\\\\::/data::/more,upperdir=/u\\,\xff,workdir=/w:x,volatile,index=off,dirsync"[..],
            b"redirect_dir=nofollow,xattr_permissions=2,writeback=1,subtype=,fsname=a\\,b,no_allow_other",
            b"uidmapping=0:100000:65536:70000:5:1,gidmapping=0:1:2,squash_to_gid=7,no_default_permissions",
            b"squash_to_root,data=passthrough",
            b"",
        ] {
            let options = parsed(text);
            let again = parsed(&options.fixed_text());
            assert_eq!(again.fixed_differences(&options), [""; 0], "{}", String::from_utf8_lossy(text));
            assert_eq!(
                (&again.lower, &again.data_only, &again.upper),
                (&options.lower, &options.data_only, &options.upper)
            );
            assert_eq!((&again.ids, &again.fsname, &again.work), (&options.ids, &options.fsname, &options.work));
        }
    }

    #[test]
    fn what_differs_is_named() {
        let mount = parsed(b"lowerdir=/a,upperdir=/u,workdir=/w");
        let names =
            |text: &str| mount.fixed_differences(&parsed(&[&mount.fixed_text()[..], b",", text.as_bytes()].concat()));
        assert_eq!(names("ro,nosuid,dev,noexec,noatime,sync,lowerdir=/a,data=auto,index=on,rw"), [""; 0]);
        assert_eq!(names("volatile,lowerdir=/a:/b"), ["lowerdir=", "volatile"]);
        assert_eq!(names("squash_to_root,no_allow_other,fsname=x"), ["squash_to_*=", "allow_other", "fsname="]);
        assert_eq!(names("data=passthrough,uidmapping=0:1:1,dirsync"), ["data=", "uidmapping=", "dirsync"]);
    }

    #[test]
    fn too_many_layers_are_left_out() {
        let mut options = parsed(b"upperdir=/u,workdir=/w");
        options.lower = vec!["/layer".repeat(20).into(); 1000];
        assert!(options.fixed_text().starts_with(b"upperdir=/u,"));
    }
}
