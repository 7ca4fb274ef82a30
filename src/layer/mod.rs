//! The on-disk format of one layer directory, in the forms of kernel overlayfs and of OCI images.
//!
//! | question | module |
//! |---|---|
//! | Which extended attributes belong to the format, and how do others keep clear of them? | [`xattr`] |
//! | What do the attributes of a directory or file say? | [`markers`] |
//! | How does a deleted name look? | [`whiteout`] |
//! | Where do the lower parts of a renamed directory lie? | [`redirect`] |
//! | Which lower file was this one copied from? | [`origin`] |
//! | What does the root of a new upper directory look like? | [`root`] |
//! | How many links does a copied-up hard link really have? | [`nlink`] |
//! | Who owns what a program without privileges unpacked? | [`override_stat`] |
//!
//! Nothing here knows of more than one layer; how markers act on the layers below is in `overlay`.

pub mod markers;
pub mod nlink;
pub mod origin;
pub mod override_stat;
pub mod redirect;
pub mod root;
pub mod whiteout;
pub mod xattr;
