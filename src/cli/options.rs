//! The option string of a mount, as mount(8) and the programs that call us write it.
//!
//! Elements are separated by commas. A backslash takes the next character literally, in the splitting as well as in
//! a path; `\:` does so within `lowerdir=`, where colons separate layers and `::` begins data-only ones (kernel
//! documentation, filesystems/overlayfs.rst). The value of an SELinux context may be quoted and then hold commas.
//! Where an option is given twice, the last one counts.

use crate::fuse::{Data, IdRange, Ids, Switches};
use crate::overlay::RedirectMode;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// What is mounted if nothing else is said: `fsname=` and `subtype=`. Of a mount of kernel overlayfs, how `umount` knows it.
pub const NAME: &str = "laminafs";

/// Options that ask for what happens anyway, or say nothing about the mount itself. Accepted without a word.
const GRANTED: &[&str] = &[
    "async",
    "atime",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "defaults",
    "diratime",
    "nodiratime",
    "relatime",
    "strictatime",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "metacopy=off",
    "nfs_export=off",
    "verity=off",
    "xino=off",
    "xino=auto",
    "xino=on",
    "fsync=1",
];

/// Options that change data, ownership or what is checked, and that are not implemented: never ignored.
const REFUSED: &[&str] = &["bind", "nfs_export", "userxattr", "verity", "xattr_permissions"];

/// Options whose value may stand in quotes.
const QUOTED: &[&[u8]] = &[b"context=", b"fscontext=", b"defcontext=", b"rootcontext="];

/// Why an option string cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A known option with a value that it does not have.
    #[error("option {option}: use {values}")]
    Value {
        /// The element as it was written.
        option: String,
        /// What would have been understood, behind "use".
        values: &'static str,
    },
    /// An option that must not be ignored.
    #[error("option {0} is not implemented; mount without it")]
    NotImplemented(String),
    /// A path option without a path.
    #[error("option {0}= needs a path")]
    NoPath(&'static str),
    /// `lowerdir=` begins or ends with a colon, or has three in a row.
    #[error("empty layer in lowerdir={0}: separate layers with one \":\", data-only layers with \"::\"")]
    EmptyLayer(String),
    /// A single colon after a double one.
    #[error("lowerdir={0}: only data-only layers (after \"::\") can follow a data-only layer")]
    LayerAfterData(String),
    /// Lower layers by option string and by flags.
    #[error("lower layers both in lowerdir= and with --lower: use one of them")]
    TwoStacks,
}

/// Everything an option string and the flags beside it say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// Lower layers, topmost first.
    pub lower: Vec<PathBuf>,
    /// Data-only layers, topmost first.
    pub data_only: Vec<PathBuf>,
    /// The writable layer.
    pub upper: Option<PathBuf>,
    /// Where changes are prepared.
    pub work: Option<PathBuf>,
    /// `redirect_dir=`.
    pub redirect: RedirectMode,
    /// `index=`: hard links of lower layers stay links when they are copied up.
    pub index: bool,
    /// Nothing is synced.
    pub volatile: bool,
    /// Owners, modes and device numbers are kept in `user.containers.override_stat` (`xattr_permissions=2`).
    pub override_stat: bool,
    /// Writing is refused even with an upper layer.
    pub read_only: bool,
    /// Set-user-id and set-group-id bits have effect.
    pub suid: bool,
    /// Device nodes can be opened.
    pub dev: bool,
    /// Programs can be executed.
    pub exec: bool,
    /// The mount carries `noatime`.
    pub no_atime: bool,
    /// The mount carries `dirsync`.
    pub dir_sync: bool,
    /// The mount carries `sync`.
    pub sync: bool,
    /// The switches of a mount that is there already are changed, and nothing is mounted.
    pub remount: bool,
    /// Writes are collected by the kernel.
    pub writeback: bool,
    /// `data=`.
    pub data: Data,
    /// `uidmapping=`, `gidmapping=`, `squash_to_root`, `squash_to_uid=`, `squash_to_gid=`.
    pub ids: Ids,
    /// Users other than the one who mounts have access.
    pub allow_other: bool,
    /// The kernel checks permissions.
    pub default_permissions: bool,
    /// The source column of /proc/mounts.
    pub fsname: String,
    /// The type column of /proc/mounts after `fuse.`; empty shows `fuse`.
    pub subtype: String,
    /// What was not understood and has no effect, as it was written.
    pub ignored: Vec<String>,
}

impl MountOptions {
    /// The defaults of root (effective user 0), or of anybody else.
    #[must_use]
    pub fn defaults(root: bool) -> Self {
        Self {
            lower: Vec::new(),
            data_only: Vec::new(),
            upper: None,
            work: None,
            redirect: RedirectMode::Auto,
            index: true,
            volatile: false,
            override_stat: false,
            read_only: false,
            suid: root,
            dev: false,
            exec: true,
            no_atime: false,
            dir_sync: false,
            sync: false,
            remount: false,
            writeback: false,
            data: Data::Auto,
            ids: Ids::default(),
            allow_other: root,
            default_permissions: true,
            fsname: NAME.to_owned(),
            subtype: NAME.to_owned(),
            ignored: Vec::new(),
        }
    }

    /// Applies the elements of one option string in their order.
    pub fn apply(&mut self, text: &OsStr) -> Result<(), OptionError> {
        split(text.as_bytes()).into_iter().filter(|e| !e.is_empty()).try_for_each(|e| self.apply_one(e))
    }

    fn apply_one(&mut self, element: &[u8]) -> Result<(), OptionError> {
        let shown = || String::from_utf8_lossy(element).into_owned();
        let (key, value) = match element.iter().position(|&b| b == b'=') {
            Some(at) => (&element[..at], Some(&element[at + 1..])),
            None => (element, None),
        };
        let key = String::from_utf8_lossy(key);
        match (&*key, value) {
            ("lowerdir", value) => (self.lower, self.data_only) = layers(value.unwrap_or_default())?,
            ("upperdir", value) => self.upper = Some(path("upperdir", value)?),
            ("workdir", value) => self.work = Some(path("workdir", value)?),
            ("redirect_dir", value) => {
                self.redirect = redirect(value.unwrap_or_default())
                    .ok_or_else(|| OptionError::Value { option: shown(), values: "on, follow, nofollow or off" })?;
            }
            ("index", Some(b"on")) => self.index = true,
            ("index", Some(b"off")) => self.index = false,
            ("index", _) => return Err(OptionError::Value { option: shown(), values: "on or off" }),
            ("writeback", None | Some(b"1")) => self.writeback = true,
            ("writeback", Some(b"0")) => self.writeback = false,
            ("writeback", _) => return Err(OptionError::Value { option: shown(), values: "0 or 1" }),
            ("data", value) => {
                self.data = data(value.unwrap_or_default())
                    .ok_or_else(|| OptionError::Value { option: shown(), values: "auto, cache or passthrough" })?;
            }
            ("xattr_permissions", Some(b"0")) => self.override_stat = false,
            ("xattr_permissions", Some(b"2")) => self.override_stat = true,
            ("uidmapping", value) => self.ids.users.ranges = mapping(value).ok_or_else(|| bad_mapping(shown()))?,
            ("gidmapping", value) => self.ids.groups.ranges = mapping(value).ok_or_else(|| bad_mapping(shown()))?,
            ("squash_to_root", None) => (self.ids.users.squash, self.ids.groups.squash) = (Some(0), Some(0)),
            ("squash_to_uid", value) => self.ids.users.squash = Some(id(value).ok_or_else(|| bad_id(shown()))?),
            ("squash_to_gid", value) => self.ids.groups.squash = Some(id(value).ok_or_else(|| bad_id(shown()))?),
            ("fsname", None | Some(b"")) => return Err(OptionError::Value { option: shown(), values: "a name" }),
            ("fsname", Some(value)) => self.fsname = text(value),
            ("subtype", Some(value)) => self.subtype = text(value),
            (key, None) if self.set_flag(key) => {}
            _ if GRANTED.iter().any(|granted| granted.as_bytes() == element) => {}
            (key, _) if key.starts_with("x-") => {}
            (key, _) if REFUSED.contains(&key) => return Err(OptionError::NotImplemented(shown())),
            _ => self.ignored.push(shown()),
        }
        Ok(())
    }

    /// Sets the switch of this name; false when there is none.
    fn set_flag(&mut self, name: &str) -> bool {
        let (switch, on) = match name {
            "ro" => (&mut self.read_only, true),
            "rw" => (&mut self.read_only, false),
            "suid" => (&mut self.suid, true),
            "nosuid" => (&mut self.suid, false),
            "dev" => (&mut self.dev, true),
            "nodev" => (&mut self.dev, false),
            "exec" => (&mut self.exec, true),
            "noexec" => (&mut self.exec, false),
            "noatime" => (&mut self.no_atime, true),
            "atime" => (&mut self.no_atime, false),
            "dirsync" => (&mut self.dir_sync, true),
            "sync" => (&mut self.sync, true),
            "async" => (&mut self.sync, false),
            "remount" => (&mut self.remount, true),
            "volatile" => (&mut self.volatile, true),
            "allow_other" => (&mut self.allow_other, true),
            "no_allow_other" => (&mut self.allow_other, false),
            "default_permissions" => (&mut self.default_permissions, true),
            "no_default_permissions" => (&mut self.default_permissions, false),
            _ => return false,
        };
        *switch = on;
        true
    }

    /// The switches of a mount that is there already, to be changed by what is applied then.
    pub fn start_from(&mut self, mount: &Switches) {
        self.read_only = mount.contains(Switches::RDONLY);
        self.suid = !mount.contains(Switches::NOSUID);
        self.dev = !mount.contains(Switches::NODEV);
        self.exec = !mount.contains(Switches::NOEXEC);
        self.no_atime = mount.contains(Switches::NOATIME);
        self.sync = mount.contains(Switches::SYNCHRONOUS);
    }

    /// Adds what the flags `--lower`, `--upper` and `--work` say; the latter two win over the option string.
    pub fn add_flags(
        &mut self,
        lower: Vec<PathBuf>,
        upper: Option<PathBuf>,
        work: Option<PathBuf>,
    ) -> Result<(), OptionError> {
        if !lower.is_empty() {
            if !self.lower.is_empty() {
                return Err(OptionError::TwoStacks);
            }
            self.lower = lower;
        }
        self.upper = upper.or(self.upper.take());
        self.work = work.or(self.work.take());
        Ok(())
    }
}

/// Whether an option string is about a mount that is there already.
#[must_use]
pub fn asks_to_remount(options: &OsStr) -> bool {
    split(options.as_bytes()).contains(&&b"remount"[..])
}

/// Whether an option string names lower layers.
#[must_use]
pub fn names_layers(options: &OsStr) -> bool {
    split(options.as_bytes()).iter().any(|element| element.starts_with(b"lowerdir="))
}

fn bad_mapping(option: String) -> OptionError {
    OptionError::Value { option, values: "DISK:SHOWN:COUNT, several joined with colons; ranges may not overlap" }
}

fn bad_id(option: String) -> OptionError {
    OptionError::Value { option, values: "a number from 0 to 4294967294" }
}

/// An id; `(uid_t) -1` is none.
fn id(value: Option<&[u8]>) -> Option<u32> {
    let id = std::str::from_utf8(value?).ok()?;
    id.bytes().all(|b| b.is_ascii_digit()).then_some(id)?.parse().ok().filter(|&id| id != u32::MAX)
}

/// The value of `uidmapping=` or `gidmapping=`. `None` when it is no list of ranges, or an id would stand for two.
/// containers/storage writes a colon before each range, also before the first.
fn mapping(value: Option<&[u8]>) -> Option<Vec<IdRange>> {
    let value = value?;
    let numbers: Vec<u32> =
        value.strip_prefix(b":").unwrap_or(value).split(|&b| b == b':').map(|n| id(Some(n))).collect::<Option<_>>()?;
    let (triples, []) = numbers.as_chunks::<3>() else { return None };
    let ranges: Vec<_> = triples.iter().map(|&[disk, shown, count]| IdRange { disk, shown, count }).collect();
    let distinct = |side: fn(&IdRange) -> u32| {
        let mut sorted: Vec<_> = ranges.iter().map(|r| (u64::from(side(r)), u64::from(r.count))).collect();
        sorted.sort_unstable();
        let apart = sorted.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0);
        apart && sorted.iter().all(|&(from, count)| count > 0 && from + count <= u64::from(u32::MAX))
    };
    (distinct(|r| r.disk) && distinct(|r| r.shown)).then_some(ranges)
}

/// Splits at commas that are neither escaped nor inside the quotes of a context. Escapes stay.
fn split(text: &[u8]) -> Vec<&[u8]> {
    let mut elements = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'"' if QUOTED.contains(&&text[start..at]) => {
                // Without an end it is no quote.
                at += text[at + 1..].iter().position(|&b| b == b'"').map_or(0, |length| length + 1);
            }
            b',' => {
                elements.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    elements.push(&text[start..]);
    elements
}

/// Splits the value of `lowerdir=` into normal and data-only layers.
fn layers(value: &[u8]) -> Result<(Vec<PathBuf>, Vec<PathBuf>), OptionError> {
    if value.is_empty() {
        return Err(OptionError::NoPath("lowerdir"));
    }
    let shown = || String::from_utf8_lossy(value).into_owned();
    let (mut normal, mut data) = (Vec::new(), Vec::new());
    let mut rest = value;
    let mut colons = 0;
    loop {
        let (layer, after) = rest.split_at(unescaped_colon(rest).unwrap_or(rest.len()));
        match (layer.is_empty(), colons) {
            (true, _) => return Err(OptionError::EmptyLayer(shown())),
            (false, 2) => data.push(unescape(layer)),
            (false, _) if data.is_empty() => normal.push(unescape(layer)),
            (false, _) => return Err(OptionError::LayerAfterData(shown())),
        }
        (rest, colons) = match after {
            [] => return Ok((normal, data)),
            [b':', b':', rest @ ..] => (rest, 2),
            [_, rest @ ..] => (rest, 1),
        };
    }
}

fn unescaped_colon(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b':' => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// Takes the character after each backslash literally; one at the very end stands for nothing.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = text.iter().copied();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'\\' { plain.extend(bytes.next()) } else { plain.push(byte) }
    }
    OsString::from_vec(plain).into()
}

fn path(option: &'static str, value: Option<&[u8]>) -> Result<PathBuf, OptionError> {
    match value {
        None | Some([]) => Err(OptionError::NoPath(option)),
        Some(value) => Ok(unescape(value)),
    }
}

fn text(value: &[u8]) -> String {
    unescape(value).to_string_lossy().into_owned()
}

fn redirect(value: &[u8]) -> Option<RedirectMode> {
    match value {
        b"on" => Some(RedirectMode::On),
        b"follow" => Some(RedirectMode::Follow),
        b"nofollow" => Some(RedirectMode::NoFollow),
        b"off" => Some(RedirectMode::Off),
        _ => None,
    }
}

fn data(value: &[u8]) -> Option<Data> {
    match value {
        b"auto" => Some(Data::Auto),
        b"cache" => Some(Data::Cache),
        b"passthrough" => Some(Data::Passthrough),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    fn parse(text: &str) -> Result<MountOptions, OptionError> {
        let mut options = MountOptions::defaults(true);
        options.apply(OsStr::new(text))?;
        Ok(options)
    }

    fn good(text: &str) -> MountOptions {
        parse(text).unwrap()
    }

    fn paths(texts: &[&str]) -> Vec<PathBuf> {
        texts.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn defaults_of_root_and_of_others() {
        let root = MountOptions::defaults(true);
        assert!(root.default_permissions && root.allow_other && root.suid && !root.dev && root.exec);
        let other = MountOptions::defaults(false);
        assert!(other.default_permissions && !other.allow_other && !other.suid && !other.dev && other.exec);
        assert_eq!((root.fsname.as_str(), root.subtype.as_str()), ("laminafs", "laminafs"));
        assert!(!root.read_only && !root.volatile && !root.no_atime);
    }

    #[test]
    fn every_default_has_its_opposite() {
        let o = good("no_default_permissions,no_allow_other,nosuid,dev,noexec,noatime,ro,volatile,sync,dirsync");
        assert!(!o.default_permissions && !o.allow_other && !o.suid && o.dev && !o.exec);
        assert!(o.no_atime && o.read_only && o.volatile && o.sync && o.dir_sync);
        let mut o = MountOptions::defaults(false);
        o.apply(OsStr::new("allow_other,suid,dev")).unwrap();
        assert!(o.allow_other && o.suid && o.dev);
        assert!(o.ignored.is_empty());
    }

    #[test]
    fn the_last_one_counts() {
        let o = good("ro,rw,dev,nodev,suid,nosuid,suid,noatime,atime,sync,async,lowerdir=a,lowerdir=b:c,noexec,exec");
        assert!(!o.read_only && !o.dev && o.suid && !o.no_atime && !o.sync && o.exec);
        assert_eq!(o.lower, paths(&["b", "c"]));
        let mut o = good("upperdir=u,ro");
        o.apply(OsStr::new("rw,upperdir=v")).unwrap();
        assert_eq!(o.upper, Some("v".into()));
        assert!(!o.read_only);
    }

    #[test]
    fn a_whole_stack() {
        let o = good("lowerdir=/l/A:/l/B:../diff1,upperdir=/x/diff,workdir=/x/work,volatile");
        assert_eq!(o.lower, paths(&["/l/A", "/l/B", "../diff1"]));
        assert_eq!((o.upper, o.work), (Some("/x/diff".into()), Some("/x/work".into())));
        assert!(o.volatile && o.data_only.is_empty() && o.ignored.is_empty());
    }

    #[test]
    fn empty_elements_are_nothing() {
        let o = good(",,lowerdir=/a,,workdir=/w,,volatile,");
        assert_eq!(o.lower, paths(&["/a"]));
        assert_eq!(o.work, Some("/w".into()));
        assert!(o.volatile && o.ignored.is_empty());
        assert_eq!(good(""), MountOptions::defaults(true));
    }

    #[test]
    fn escapes() {
        let o = good(r"lowerdir=/a\:b:/c\,d:/e\\f:/g\\,upperdir=/u\,p\:r\\,workdir=/w:x");
        assert_eq!(o.lower, paths(&["/a:b", "/c,d", r"/e\f", r"/g\"]));
        assert_eq!(o.upper, Some(r"/u,p:r\".into()));
        assert_eq!(o.work, Some("/w:x".into()));
        assert_eq!(good(r"lowerdir=/\a\::b\").lower, paths(&["/a:", "b"]));
        assert_eq!(good(r"fsname=a\,b").fsname, "a,b");
    }

    #[test]
    fn paths_need_not_be_utf8() {
        let mut o = MountOptions::defaults(true);
        o.apply(OsStr::from_bytes(b"lowerdir=/\xff\xfe:/\xe4,upperdir=\xff")).unwrap();
        assert_eq!(o.lower[0].as_os_str().as_bytes(), b"/\xff\xfe");
        assert_eq!(o.lower[1].as_os_str().as_bytes(), b"/\xe4");
        assert_eq!(o.upper.as_deref().map(|p| p.as_os_str().as_bytes()), Some(&b"\xff"[..]));
    }

    #[test]
    fn data_only_layers() {
        let o = good("lowerdir=/a:/b::/d1::/d2");
        assert_eq!((o.lower, o.data_only), (paths(&["/a", "/b"]), paths(&["/d1", "/d2"])));
        assert_eq!(good("lowerdir=/a::/d,lowerdir=/b").data_only, paths(&[]));
        assert_eq!(good(r"lowerdir=/a\::/b").lower, paths(&["/a:", "/b"]));
        assert!(matches!(parse("lowerdir=/a::/d:/b"), Err(OptionError::LayerAfterData(_))));
    }

    #[test]
    fn empty_layers_are_errors() {
        for text in ["lowerdir=:a", "lowerdir=a:", "lowerdir=a:::b", "lowerdir=::d", "lowerdir=a::", "lowerdir=a::b::"]
        {
            assert!(matches!(parse(text), Err(OptionError::EmptyLayer(_))), "{text}");
        }
        for text in ["lowerdir=", "lowerdir", "upperdir=", "upperdir", "workdir="] {
            assert!(matches!(parse(text), Err(OptionError::NoPath(_))), "{text}");
        }
    }

    #[test]
    fn redirect_and_index() {
        assert_eq!(good("lowerdir=a").redirect, RedirectMode::Auto);
        assert_eq!(good("redirect_dir=on").redirect, RedirectMode::On);
        assert_eq!(good("redirect_dir=follow").redirect, RedirectMode::Follow);
        assert_eq!(good("redirect_dir=nofollow").redirect, RedirectMode::NoFollow);
        assert_eq!(good("redirect_dir=off").redirect, RedirectMode::Off);
        for text in ["redirect_dir=maybe", "redirect_dir", "index=maybe", "index"] {
            assert!(matches!(parse(text), Err(OptionError::Value { .. })), "{text}");
        }
        assert!(good("lowerdir=a").index && good("index=off,index=on").index);
        assert!(!good("index=on,index=off").index);
    }

    #[test]
    fn ways_of_data() {
        assert_eq!(good("lowerdir=a").data, Data::Auto);
        assert_eq!(good("data=cache").data, Data::Cache);
        assert_eq!(good("data=cache,data=passthrough").data, Data::Passthrough);
        assert_eq!(good("data=passthrough,data=auto").data, Data::Auto);
        for text in ["data", "data=", "data=direct"] {
            assert!(matches!(parse(text), Err(OptionError::Value { .. })), "{text}");
        }
    }

    #[test]
    fn unknown_options_are_collected() {
        let o = good("lowerdir=a,lazytime,frobnicate=7,private,xino=off,relatime,x-systemd.automount,rw,uuid=on");
        assert_eq!(o.ignored, ["lazytime", "frobnicate=7", "uuid=on"]);
        // A switch has no value.
        assert_eq!(good("volatile=1").ignored, ["volatile=1"]);
        assert_eq!(good("metacopy=on,metacopy=off").ignored, ["metacopy=on"]);
    }

    #[test]
    fn quoted_contexts() {
        let label = r#"context="system_u:object_r:container_file_t:s0:c214,c1021""#;
        let o = good(&format!("lowerdir=a,{label},upperdir=u"));
        assert_eq!((o.ignored, o.upper), (vec![label.to_owned()], Some("u".into())));
        assert_eq!(good(&format!("lowerdir=a,,{label}")).ignored, [label]);
        // No end, no quote; and quotes are ordinary characters elsewhere.
        assert_eq!(good(r#"context="a,ro"#).ignored, [r#"context="a"#]);
        assert!(good(r#"context="a,ro"#).read_only);
        assert_eq!(good(r#"lowerdir="a,upperdir=b""#).lower, paths(&["\"a"]));
        assert_eq!(good(r#"context="a,b",rootcontext="c,d",ro"#).ignored.len(), 2);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for text in
            ["xattr_permissions=1", "xattr_permissions", "verity=require", "verity=on", "nfs_export=on", "userxattr"]
        {
            let error = parse(text).unwrap_err();
            assert_eq!(error, OptionError::NotImplemented(text.to_owned()));
            assert!(error.to_string().contains(text));
        }
        assert!(good("xattr_permissions=0,verity=off,nfs_export=off").ignored.is_empty());
    }

    #[test]
    fn owners_in_attributes_as_fuse_overlayfs_names_it() {
        assert!(good("xattr_permissions=0,xattr_permissions=2").override_stat);
        assert!(!good("xattr_permissions=2,xattr_permissions=0").override_stat);
        assert!(!good("ro").override_stat);
    }

    #[test]
    fn owners() {
        let o = good("uidmapping=0:100000:65536:70000:5:1,gidmapping=0:1000:1");
        assert_eq!(good("uidmapping=:0:100000:65536:70000:5:1,gidmapping=:0:1000:1").ids, o.ids, "as podman writes it");
        let range = |disk, shown, count| IdRange { disk, shown, count };
        assert_eq!(o.ids.users.ranges, [range(0, 100_000, 65536), range(70_000, 5, 1)]);
        assert_eq!(o.ids.groups.ranges, [range(0, 1000, 1)]);
        let o = good("squash_to_root,squash_to_gid=5");
        assert_eq!((o.ids.users.squash, o.ids.groups.squash), (Some(0), Some(5)));
        for bad in [
            "uidmapping",
            "uidmapping=",
            "uidmapping=:",
            "uidmapping=::0:1:1",
            "uidmapping=0:1",
            "uidmapping=0:1:0",
            "uidmapping=0:1:2:1:9:1",
            "uidmapping=0:1:2:8:2:1",
            "gidmapping=0:1:2:",
            "gidmapping=-1:1:2",
            "gidmapping=0:4294967290:100",
            "squash_to_uid",
            "squash_to_uid=root",
            "squash_to_gid=4294967295",
            "squash_to_gid=+5",
        ] {
            assert!(matches!(parse(bad), Err(OptionError::Value { .. })), "{bad}");
        }
    }

    #[test]
    fn names_in_proc_mounts() {
        let o = good("fsname=here,subtype=");
        assert_eq!((o.fsname.as_str(), o.subtype.as_str()), ("here", ""));
    }

    #[test]
    fn flags_beside_the_string() {
        let mut o = good("upperdir=u,workdir=w");
        o.add_flags(paths(&["a:b", "c,d"]), Some("v".into()), None).unwrap();
        assert_eq!(o.lower, paths(&["a:b", "c,d"]));
        assert_eq!((o.upper, o.work), (Some("v".into()), Some("w".into())));
        let mut o = good("lowerdir=a");
        assert_eq!(o.add_flags(paths(&["b"]), None, None), Err(OptionError::TwoStacks));
    }

    #[test]
    fn strings_that_name_layers() {
        assert!(names_layers(OsStr::new("lowerdir=a")));
        assert!(names_layers(OsStr::new("ro,,lowerdir=a:b")));
        assert!(!names_layers(OsStr::new("upperdir=/x/lowerdir=a")));
        assert!(!names_layers(OsStr::new(r"upperdir=a\,lowerdir=b")));
        assert!(!names_layers(OsStr::new("")));
    }
}
