//! Words of a case file: how each kind of argument is written and read.

use std::fmt::Write;

/// An argument of an operation. A word has no blanks.
pub trait Word: Sized {
    fn put(&self) -> String;
    /// None if the word does not stand for such an argument.
    fn take(word: &str) -> Option<Self>;
}

/// Bytes of a name, a path, a value. Written as they are where that can be read; others as `\xHH`, long runs of one
/// letter as `a{255}`, nothing as `""`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        Self(bytes.as_ref().to_vec())
    }
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'{' | b'}' | b'"' | b'%' | b'#')
}

impl Word for Bytes {
    fn put(&self) -> String {
        if self.0.is_empty() {
            return "\"\"".to_owned();
        }
        let mut text = String::new();
        for run in self.0.chunk_by(|a, b| a == b) {
            let one = if plain(run[0]) { char::from(run[0]).to_string() } else { format!("\\x{:02x}", run[0]) };
            if run.len() > 8 {
                write!(text, "{one}{{{}}}", run.len()).unwrap();
            } else {
                text.extend(std::iter::repeat_n(one, run.len()));
            }
        }
        text
    }

    fn take(word: &str) -> Option<Self> {
        if word == "\"\"" {
            return Some(Self(Vec::new()));
        }
        let mut bytes = Vec::new();
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            if let Some(run) = rest.strip_prefix('{') {
                let (count, after) = run.split_once('}')?;
                let byte = *bytes.last()?;
                bytes.resize(bytes.len() + count.parse::<usize>().ok()?.checked_sub(1)?, byte);
                rest = after;
            } else if let Some(hex) = rest.strip_prefix("\\x") {
                bytes.push(u8::from_str_radix(hex.get(..2)?, 16).ok()?);
                rest = &hex[2..];
            } else {
                bytes.push(u8::try_from(first).ok()?);
                rest = &rest[1..];
            }
        }
        Some(Self(bytes))
    }
}

/// A path from the root of the tree, or with `%N/` in front from the directory descriptor in slot N. `.` is the start
/// itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub slot: Option<Slot>,
    pub path: Vec<u8>,
}

impl Place {
    pub fn new(path: impl AsRef<[u8]>) -> Self {
        Self { slot: None, path: path.as_ref().to_vec() }
    }
}

impl Word for Place {
    fn put(&self) -> String {
        let path = Bytes(self.path.clone()).put();
        self.slot.map_or(path.clone(), |slot| format!("{}/{path}", slot.put()))
    }

    fn take(word: &str) -> Option<Self> {
        let (slot, path) = match word.starts_with('%').then(|| word.split_once('/')).flatten() {
            Some((slot, path)) => (Some(Slot::take(slot)?), path),
            None => (None, word),
        };
        Some(Self { slot, path: Bytes::take(path)?.0 })
    }
}

/// Where a descriptor (and a map of it) is kept: `%N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub u8);

impl Word for Slot {
    fn put(&self) -> String {
        format!("%{}", self.0)
    }

    fn take(word: &str) -> Option<Self> {
        Some(Self(word.strip_prefix('%')?.parse().ok()?))
    }
}

/// Permission bits, octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Word for Mode {
    fn put(&self) -> String {
        format!("{:04o}", self.0)
    }

    fn take(word: &str) -> Option<Self> {
        u32::from_str_radix(word, 8).ok().map(Self)
    }
}

impl Word for u64 {
    fn put(&self) -> String {
        self.to_string()
    }

    fn take(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}

/// A user or group; `-` leaves it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub Option<u32>);

impl Word for Id {
    fn put(&self) -> String {
        self.0.map_or("-".to_owned(), |id| id.to_string())
    }

    fn take(word: &str) -> Option<Self> {
        if word == "-" { Some(Self(None)) } else { word.parse().ok().map(|id| Self(Some(id))) }
    }
}

/// A time for utimensat(2): `now`, `omit`, or seconds and nanoseconds as `-5:250`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    Omit,
    At(i64, u32),
}

impl Word for When {
    fn put(&self) -> String {
        match self {
            Self::Now => "now".to_owned(),
            Self::Omit => "omit".to_owned(),
            Self::At(seconds, nanoseconds) => format!("{seconds}:{nanoseconds}"),
        }
    }

    fn take(word: &str) -> Option<Self> {
        match word {
            "now" => Some(Self::Now),
            "omit" => Some(Self::Omit),
            at => at.split_once(':').and_then(|(s, n)| Some(Self::At(s.parse().ok()?, n.parse().ok()?))),
        }
    }
}

/// Content of a file: `LENGTH*SEED`, bytes that follow from both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    pub len: usize,
    pub seed: u8,
}

impl Data {
    pub fn bytes(self) -> Vec<u8> {
        (0..self.len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(self.seed).wrapping_add((i >> 8) as u8)).collect()
    }
}

impl Word for Data {
    fn put(&self) -> String {
        format!("{}*{}", self.len, self.seed)
    }

    fn take(word: &str) -> Option<Self> {
        let (len, seed) = word.split_once('*')?;
        Some(Self { len: len.parse().ok()?, seed: seed.parse().ok()? })
    }
}

/// What mknod(2) makes: `file`, `fifo`, `socket`, `char:MAJOR:MINOR`, `block:MAJOR:MINOR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Fifo,
    Socket,
    Char(u32, u32),
    Block(u32, u32),
}

impl Word for Kind {
    fn put(&self) -> String {
        match self {
            Self::File => "file".to_owned(),
            Self::Fifo => "fifo".to_owned(),
            Self::Socket => "socket".to_owned(),
            Self::Char(major, minor) => format!("char:{major}:{minor}"),
            Self::Block(major, minor) => format!("block:{major}:{minor}"),
        }
    }

    fn take(word: &str) -> Option<Self> {
        let mut parts = word.split(':');
        let kind = parts.next()?;
        let mut number = || parts.next()?.parse().ok();
        Some(match kind {
            "file" => Self::File,
            "fifo" => Self::Fifo,
            "socket" => Self::Socket,
            "char" => Self::Char(number()?, number()?),
            "block" => Self::Block(number()?, number()?),
            _ => return None,
        })
    }
}

/// Bits with names, joined by `+`; none are `-`.
macro_rules! flags {
    ($(#[$doc:meta])* $name:ident($repr:ty) { $($word:literal = $bits:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub $repr);

        impl $name {
            pub fn has(self, bits: $repr) -> bool {
                self.0 & bits == bits
            }
        }

        impl Word for $name {
            fn put(&self) -> String {
                let known: &[(&str, $repr)] = &[$(($word, $bits)),*];
                let set: Vec<_> = known.iter().filter(|(_, bits)| self.has(*bits)).map(|(word, _)| *word).collect();
                if set.is_empty() { "-".to_owned() } else { set.join("+") }
            }

            fn take(text: &str) -> Option<Self> {
                let known: &[(&str, $repr)] = &[$(($word, $bits)),*];
                if text == "-" {
                    return Some(Self(0));
                }
                let mut all = 0;
                for word in text.split('+') {
                    all |= known.iter().find(|(name, _)| *name == word)?.1;
                }
                Some(Self(all))
            }
        }
    };
}

flags! {
    /// Flags of open(2); reading if neither `wr` nor `rdwr` is there.
    OpenFlags(i32) {
        "wr" = libc::O_WRONLY, "rdwr" = libc::O_RDWR, "creat" = libc::O_CREAT, "excl" = libc::O_EXCL,
        "trunc" = libc::O_TRUNC, "append" = libc::O_APPEND, "dir" = libc::O_DIRECTORY,
        "nofollow" = libc::O_NOFOLLOW, "path" = libc::O_PATH, "noatime" = libc::O_NOATIME,
    }
}

flags! {
    /// Flags of renameat2(2).
    RenameFlags(u32) {
        "noreplace" = libc::RENAME_NOREPLACE, "exchange" = libc::RENAME_EXCHANGE, "whiteout" = libc::RENAME_WHITEOUT,
    }
}

flags! {
    /// Flags of setxattr(2).
    XattrFlags(i32) { "create" = libc::XATTR_CREATE, "replace" = libc::XATTR_REPLACE, }
}

flags! {
    /// Modes of fallocate(2).
    AllocFlags(i32) {
        "keep" = libc::FALLOC_FL_KEEP_SIZE, "punch" = libc::FALLOC_FL_PUNCH_HOLE, "zero" = libc::FALLOC_FL_ZERO_RANGE,
        "collapse" = libc::FALLOC_FL_COLLAPSE_RANGE,
    }
}

flags! {
    /// What access(2) asks for.
    Access(i32) { "r" = libc::R_OK, "w" = libc::W_OK, "x" = libc::X_OK, }
}

flags! {
    /// How a file is mapped; `shared` or private.
    MapFlags(u8) { "write" = 1, "shared" = 2, }
}

flags! {
    /// Inode flags (FS_IOC_SETFLAGS).
    InodeFlags(u32) { "nodump" = 0x40, "noatime" = 0x80, "sync" = 0x08, }
}

/// Two choices, each with a word.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($case:ident = $word:literal),* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($case),* }

        impl $name {
            #[allow(dead_code, reason = "not every choice is enumerated")]
            pub const ALL: &[Self] = &[$(Self::$case),*];
        }

        impl Word for $name {
            fn put(&self) -> String {
                match self { $(Self::$case => $word),* }.to_owned()
            }

            fn take(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$case),)* _ => None }
            }
        }
    };
}

choice! {
    /// Whether a symbolic link at the end of a path is followed.
    Link { Follow = "follow", Itself = "itself" }
}

choice! {
    /// Which access control list.
    AclKind { Access = "access", Default = "default" }
}

choice! {
    /// Whence of lseek(2).
    Whence { Set = "set", Current = "current", End = "end", Data = "data", Hole = "hole" }
}

choice! {
    /// Who acts. Alice is 1000:1000 and also in group 2000, Bob is 1001:1001.
    Who { Root = "root", Alice = "alice", Bob = "bob" }
}

/// An access control list, `u::rwx,u:1000:r-x,g::r-x,g:2000:rwx,m::rwx,o::r-x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(pub Vec<AclEntry>);

/// Tag as in the attribute's format, id (for named entries), permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclEntry {
    pub tag: u16,
    pub id: Option<u32>,
    pub bits: u16,
}

const ACL_TAGS: &[(u16, bool, char)] =
    &[(1, false, 'u'), (2, true, 'u'), (4, false, 'g'), (8, true, 'g'), (16, false, 'm'), (32, false, 'o')];

impl Acl {
    /// The value of `system.posix_acl_access` or `_default`.
    pub fn value(&self) -> Vec<u8> {
        let mut value = 2u32.to_le_bytes().to_vec();
        for entry in &self.0 {
            value.extend(entry.tag.to_le_bytes());
            value.extend(entry.bits.to_le_bytes());
            value.extend(entry.id.unwrap_or(u32::MAX).to_le_bytes());
        }
        value
    }
}

impl Word for Acl {
    fn put(&self) -> String {
        let entry = |e: &AclEntry| {
            let letter = ACL_TAGS.iter().find(|t| t.0 == e.tag).map_or('?', |t| t.2);
            let bit = |mask, c| if e.bits & mask == 0 { '-' } else { c };
            let id = e.id.map_or(String::new(), |id| id.to_string());
            format!("{letter}:{id}:{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x'))
        };
        self.0.iter().map(entry).collect::<Vec<_>>().join(",")
    }

    fn take(word: &str) -> Option<Self> {
        let mut entries = Vec::new();
        for part in word.split(',') {
            let mut fields = part.split(':');
            let (letter, id, rwx) = (fields.next()?, fields.next()?, fields.next()?);
            let id = if id.is_empty() { None } else { Some(id.parse().ok()?) };
            let tag = ACL_TAGS.iter().find(|t| t.2.to_string() == letter && t.1 == id.is_some())?.0;
            let bits = rwx.bytes().fold(0, |bits, c| bits << 1 | u16::from(c != b'-'));
            entries.push(AclEntry { tag, id, bits });
        }
        Some(Self(entries))
    }
}
