//! The operations, and how a line of a case file stands for one.
//!
//! A line is `WHO: VERB ARGUMENT...`, for example `alice: rename a/b c noreplace`.

use super::text::{
    Access, Acl, AclKind, AllocFlags, Bytes, Data, Id, InodeFlags, Kind, Link, MapFlags, Mode, OpenFlags, Place,
    RenameFlags, Slot, When, Whence, Who, Word, XattrFlags,
};

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident $verb:literal { $($field:ident: $type:ty),* })*) => {
        /// One operation. Paths are relative to the root of the tree.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op { $($(#[$doc])* $name { $($field: $type),* },)* }

        impl Op {
            /// The verb of every operation.
            #[allow(dead_code, reason = "for reports")]
            pub const VERBS: &[&str] = &[$($verb),*];

            pub fn verb(&self) -> &'static str {
                match self { $(Self::$name { .. } => $verb),* }
            }

            fn words(&self) -> Vec<String> {
                match self { $(Self::$name { $($field),* } => vec![$($field.put()),*],)* }
            }

            fn parse<'a>(verb: &str, mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
                let op = match verb {
                    $($verb => Self::$name { $($field: <$type as Word>::take(words.next()?)?),* },)*
                    _ => return None,
                };
                words.next().is_none().then_some(op)
            }
        }
    };
}

operations! {
    // Names.
    Mkdir "mkdir" { path: Place, mode: Mode }
    Mknod "mknod" { path: Place, kind: Kind, mode: Mode }
    Symlink "symlink" { path: Place, target: Bytes }
    Link "link" { from: Place, to: Place, link: Link }
    /// A name for an open descriptor (AT_EMPTY_PATH).
    LinkSlot "link-fd" { slot: Slot, to: Place }
    Unlink "unlink" { path: Place }
    Rmdir "rmdir" { path: Place }
    Rename "rename" { from: Place, to: Place, flags: RenameFlags }
    /// Removes everything in a directory, and it, with the calls that rm -r makes.
    RemoveTree "remove-tree" { path: Place }

    // Looking.
    Stat "stat" { path: Place, link: Link }
    Access "access" { path: Place, bits: Access }
    Readlink "readlink" { path: Place }
    /// All entries of a directory with their types, sorted.
    List "list" { path: Place }

    // Attributes.
    Chmod "chmod" { path: Place, mode: Mode }
    Chown "chown" { path: Place, user: Id, group: Id, link: Link }
    Utimens "utimens" { path: Place, access: When, modification: When, link: Link }
    Truncate "truncate" { path: Place, len: u64 }
    SetInodeFlags "chattr" { path: Place, flags: InodeFlags }
    GetInodeFlags "lsattr" { path: Place }

    // Extended attributes and access control lists.
    SetXattr "setxattr" { path: Place, name: Bytes, value: Bytes, flags: XattrFlags, link: Link }
    GetXattr "getxattr" { path: Place, name: Bytes, link: Link }
    ListXattr "listxattr" { path: Place, link: Link }
    RemoveXattr "removexattr" { path: Place, name: Bytes, link: Link }
    SetAcl "setfacl" { path: Place, kind: AclKind, acl: Acl }
    GetAcl "getfacl" { path: Place, kind: AclKind }
    RemoveAcl "removefacl" { path: Place, kind: AclKind }

    // Data by path, each with a descriptor of its own that is closed at once.
    /// Opens with the flags given (and O_CREAT mode 0666), writes all data at an offset (at the end with `append`).
    Write "write" { path: Place, flags: OpenFlags, offset: u64, data: Data }
    Read "read" { path: Place, offset: u64, len: u64 }

    // Descriptors that are held. Opening into a slot closes what was in it before.
    Open "open" { slot: Slot, path: Place, flags: OpenFlags, mode: Mode }
    Close "close" { slot: Slot }
    Pread "pread" { slot: Slot, offset: u64, len: u64 }
    Pwrite "pwrite" { slot: Slot, offset: u64, data: Data }
    /// At the position of the descriptor.
    ReadNext "read-next" { slot: Slot, len: u64 }
    /// At the position of the descriptor, or at the end with `append`.
    WriteNext "write-next" { slot: Slot, data: Data }
    Seek "seek" { slot: Slot, whence: Whence, offset: u64 }
    Fstat "fstat" { slot: Slot }
    Ftruncate "ftruncate" { slot: Slot, len: u64 }
    Fallocate "fallocate" { slot: Slot, flags: AllocFlags, offset: u64, len: u64 }
    Fchmod "fchmod" { slot: Slot, mode: Mode }
    Fchown "fchown" { slot: Slot, user: Id, group: Id }
    Futimens "futimens" { slot: Slot, access: When, modification: When }
    Fsync "fsync" { slot: Slot }
    Fdatasync "fdatasync" { slot: Slot }
    CopyRange "copy-range" { from: Slot, offset: u64, to: Slot, at: u64, len: u64 }
    FsetXattr "fsetxattr" { slot: Slot, name: Bytes, value: Bytes, flags: XattrFlags }
    FgetXattr "fgetxattr" { slot: Slot, name: Bytes }
    FlistXattr "flistxattr" { slot: Slot }
    FremoveXattr "fremovexattr" { slot: Slot, name: Bytes }
    /// Maps the file from its start; one map a slot, which outlives the descriptor until the slot is used again.
    Map "mmap" { slot: Slot, flags: MapFlags, len: u64 }
    /// As much as lies within the file.
    MapRead "map-read" { slot: Slot, offset: u64, len: u64 }
    /// As much as lies within the file.
    MapWrite "map-write" { slot: Slot, offset: u64, data: Data }
    MapSync "msync" { slot: Slot }
    Unmap "munmap" { slot: Slot }
    /// So many more entries of an open directory; the order is not compared, only which names came once the end is
    /// reached (see `Rewind`).
    ReadDirectory "readdir" { slot: Slot, count: u64 }
    Rewind "rewind" { slot: Slot }

    // The whole tree.
    SyncAll "sync" { }
    /// Compares everything.
    Check "check" { }
    /// Closes all slots, unmounts, mounts again.
    Remount "remount" { }
    /// The same, but the upper directory becomes the topmost lower layer of a new one.
    Rotate "rotate" { }
    /// Closes all slots, unmounts, and each implementation goes on with what the other has written.
    Swap "swap" { }
}

impl Op {
    /// Paths before and after the operation that are the same object, if it succeeds.
    pub fn same_object(&self) -> Option<(&Place, &Place)> {
        match self {
            Self::Link { from, to, link: Link::Itself } => Some((from, to)),
            Self::Rename { from, to, .. } => Some((from, to)),
            Self::Chmod { path, .. }
            | Self::Chown { path, .. }
            | Self::Utimens { path, .. }
            | Self::Truncate { path, .. }
            | Self::SetXattr { path, .. }
            | Self::RemoveXattr { path, .. }
            | Self::SetAcl { path, .. }
            | Self::Write { path, .. } => Some((path, path)),
            _ => None,
        }
    }
}

/// An operation and who does it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub who: Who,
    pub op: Op,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.who.put(), self.op.verb())?;
        self.op.words().iter().try_for_each(|word| write!(f, " {word}"))
    }
}

impl std::str::FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let step = || {
            let (who, rest) = line.split_once(": ")?;
            let mut words = rest.split(' ').filter(|w| !w.is_empty());
            Some(Self { who: Who::take(who)?, op: Op::parse(words.next()?, words)? })
        };
        step().ok_or_else(|| format!("not a step: {line}"))
    }
}
