//! An entry of a layer, as a flat record.

use crate::sys::Time;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// The name is deleted from the layers below.
    Whiteout,
}

impl Kind {
    /// From the type bits of a mode.
    pub(super) fn of_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFCHR => Self::Char,
            libc::S_IFBLK => Self::Block,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            _ => Self::File,
        }
    }

    /// The letter of `ls -l`; `w` for a whiteout.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::File => '-',
            Self::Directory => 'd',
            Self::Symlink => 'l',
            Self::Char => 'c',
            Self::Block => 'b',
            Self::Fifo => 'p',
            Self::Socket => 's',
            Self::Whiteout => 'w',
        }
    }

    /// The word for it in JSON documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Char => "char",
            Self::Block => "block",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Whiteout => "whiteout",
        }
    }
}

/// A piece of [`Layer`]'s text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub start: u32,
    pub len: u16,
}

/// No such thing, where there is an index.
pub(super) const NONE: u32 = u32::MAX;

/// An entry of a layer, as the merged view would show it if nothing were above.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// A directory: nothing of the layers below shows through.
    pub opaque: bool,
    /// The file has metadata only, its data are those of the layers below (kernel overlayfs: metacopy).
    pub metacopy: bool,
    /// A directory that no entry of the archive describes: its attributes are those of the layer below.
    pub implied: bool,
    /// A hard link of an archive to a file in a layer below: unpacked it is a copy of that file.
    pub copied: bool,
    /// Of an archive: a further name of a file, whose entry has no data.
    pub(super) further: bool,
    /// Permission bits, set-id and sticky ones included.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of a regular file in bytes, holes included; of a symbolic link that of its target; else 0.
    pub size: u64,
    /// Time of the last change.
    pub mtime: Time,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// The first name, in the order of entries, of the same file; its own for all but hard links.
    pub(super) first: u32,
    pub(super) name: Text,
    /// Target of a symbolic link; of a directory or metacopy file the redirect.
    pub(super) target: Text,
    pub(super) parent: u32,
    pub(super) children: (u32, u32),
    /// Of an archive: the number of the tar entry that has the data.
    pub(super) ordinal: u32,
    /// Index of the digest of the content, where the layer was read through.
    pub(super) content: u32,
    /// The same of the extended attributes.
    pub(super) xattrs: u32,
}

impl Entry {
    /// An entry with nothing in it.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            opaque: false,
            metacopy: false,
            implied: false,
            copied: false,
            further: false,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            device: (0, 0),
            first: NONE,
            name: Text::default(),
            target: Text::default(),
            parent: 0,
            children: (0, 0),
            ordinal: NONE,
            content: NONE,
            xattrs: NONE,
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Whether it is a whiteout.
    #[must_use]
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::Whiteout
    }

    /// Bytes that the entry takes in its layer: those of a regular file that has data of its own.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        if self.kind == Kind::File && !self.metacopy { self.size } else { 0 }
    }
}
