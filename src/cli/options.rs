//! The option string of a mount, as mount(8) and the programs that call us write it.
//!
//! Elements are separated by commas. A backslash takes the next character literally, in the splitting as well as in
//! a path; `\:` does so within `lowerdir=`, where colons separate layers and `::` begins data-only ones (kernel
//! documentation, filesystems/overlayfs.rst). The value of an SELinux context may be quoted and then hold commas.
//! Where an option is given twice, the last one counts; `lowerdir+=` and `datadir+=` each add one layer below those before.

mod fixed;
#[cfg(test)]
mod tests;

use crate::fuse::{Data, IdRange, Ids, NO_SYMFOLLOW, Switches};
use crate::overlay::{self, RedirectMode};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// What is mounted if nothing else is said: `fsname=` and `subtype=`. Of a mount of kernel overlayfs, how `umount` knows it.
pub const NAME: &str = "laminafs";

/// Options that ask for what happens anyway, or say nothing about the mount itself. Accepted without a word.
const GRANTED: &[&str] = &[
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
    "remount",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "nfs_export=off",
    "verity=off",
    "xino=off",
    "xino=auto",
    "xino=on",
];

/// Options that change data, ownership or what is checked, and that are not implemented: never ignored.
const REFUSED: &[&str] = &["bind", "nfs_export", "verity"];

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
    /// Redirects and metacopy files in attributes that everybody can set.
    #[error("userxattr and {0} exclude each other: whoever owns a file could lead to others with it; leave out one")]
    LedByUsers(&'static str),
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
    /// The same in `security.fuseoverlayfs.override_stat` (`xattr_permissions=1`).
    pub privileged_stat: bool,
    /// Markers are `user.overlay.*` attributes.
    pub userxattr: bool,
    /// `metacopy=on`, which has no effect.
    pub metacopy: bool,
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
    /// The mount carries `strictatime`; excludes the one before.
    pub strict_atime: bool,
    /// The mount carries `nodiratime`.
    pub no_dir_atime: bool,
    /// The mount carries `nosymfollow`.
    pub no_symfollow: bool,
    /// The mount carries `dirsync`.
    pub dir_sync: bool,
    /// The mount carries `sync`.
    pub sync: bool,
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
            privileged_stat: false,
            userxattr: false,
            metacopy: false,
            read_only: false,
            suid: root,
            dev: false,
            exec: true,
            no_atime: false,
            strict_atime: false,
            no_dir_atime: false,
            no_symfollow: false,
            dir_sync: false,
            sync: false,
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
            ("lowerdir+", value) => self.lower.push(path("lowerdir+", value)?),
            ("datadir+", value) => self.data_only.push(path("datadir+", value)?),
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
            ("xattr_permissions", Some(value @ (b"0" | b"1" | b"2"))) => {
                (self.override_stat, self.privileged_stat) = (value != b"0", value == b"1");
            }
            ("xattr_permissions", _) => return Err(OptionError::Value { option: shown(), values: "0, 1 or 2" }),
            ("metacopy", Some(b"on")) => {
                self.metacopy = true;
                self.ignored.push(shown());
            }
            ("metacopy", Some(b"off")) => self.metacopy = false,
            ("uidmapping", value) => self.ids.users.ranges = mapping(value).ok_or_else(|| bad_mapping(shown()))?,
            ("gidmapping", value) => self.ids.groups.ranges = mapping(value).ok_or_else(|| bad_mapping(shown()))?,
            ("squash_to_root", None) => (self.ids.users.squash, self.ids.groups.squash) = (Some(0), Some(0)),
            ("squash_to_uid", value) => self.ids.users.squash = Some(id(value).ok_or_else(|| bad_id(shown()))?),
            ("squash_to_gid", value) => self.ids.groups.squash = Some(id(value).ok_or_else(|| bad_id(shown()))?),
            ("fsname", None | Some(b"")) => return Err(OptionError::Value { option: shown(), values: "a name" }),
            ("fsname", Some(value)) => self.fsname = text(value),
            ("subtype", Some(value)) => self.subtype = text(value),
            ("fsync", Some(b"0")) => self.volatile = true,
            ("fsync", Some(b"1")) => self.volatile = false,
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
            "noatime" | "atime" | "relatime" | "strictatime" => {
                self.no_atime = name == "noatime";
                (&mut self.strict_atime, name == "strictatime")
            }
            "nodiratime" => (&mut self.no_dir_atime, true),
            "diratime" => (&mut self.no_dir_atime, false),
            "nosymfollow" => (&mut self.no_symfollow, true),
            "symfollow" => (&mut self.no_symfollow, false),
            "dirsync" => (&mut self.dir_sync, true),
            "sync" => (&mut self.sync, true),
            "async" => (&mut self.sync, false),
            "volatile" => (&mut self.volatile, true),
            "userxattr" => (&mut self.userxattr, true),
            "allow_other" => (&mut self.allow_other, true),
            "no_allow_other" => (&mut self.allow_other, false),
            "default_permissions" => (&mut self.default_permissions, true),
            "no_default_permissions" => (&mut self.default_permissions, false),
            _ => return false,
        };
        *switch = on;
        true
    }

    /// Refuses what makes no sense together, as the kernel does (`ovl_fs_params_verify`).
    pub fn check(&self) -> Result<(), OptionError> {
        let asked = match self.redirect {
            RedirectMode::On => Some("redirect_dir=on"),
            RedirectMode::Follow => Some("redirect_dir=follow"),
            RedirectMode::Auto | RedirectMode::NoFollow | RedirectMode::Off => self.metacopy.then_some("metacopy=on"),
        };
        asked.filter(|_| self.userxattr).map_or(Ok(()), |option| Err(OptionError::LedByUsers(option)))
    }

    /// The stack that they name, and how it is read.
    pub fn stack(&self) -> overlay::Options {
        overlay::Options {
            lower: self.lower.clone(),
            data_only: self.data_only.clone(),
            upper: self.upper.clone(),
            work: self.work.clone(),
            redirect: self.redirect,
            no_index: !self.index,
            override_stat: self.override_stat,
            privileged_stat: self.privileged_stat,
            userxattr: self.userxattr,
            ..overlay::Options::default()
        }
    }

    /// The switches of a mount that is there already, to be changed by what is applied then.
    pub fn start_from(&mut self, mount: &Switches) {
        self.read_only = mount.contains(Switches::RDONLY);
        self.suid = !mount.contains(Switches::NOSUID);
        self.dev = !mount.contains(Switches::NODEV);
        self.exec = !mount.contains(Switches::NOEXEC);
        self.no_atime = mount.contains(Switches::NOATIME);
        self.strict_atime = !mount.intersects(Switches::NOATIME | Switches::RELATIME);
        self.no_dir_atime = mount.contains(Switches::NODIRATIME);
        self.no_symfollow = mount.contains(NO_SYMFOLLOW);
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
    split(options.as_bytes()).iter().any(|e| e.starts_with(b"lowerdir=") || e.starts_with(b"lowerdir+="))
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
pub fn layers(value: &[u8]) -> Result<(Vec<PathBuf>, Vec<PathBuf>), OptionError> {
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
