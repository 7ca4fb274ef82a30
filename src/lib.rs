//! laminafs stacks read-only directories ("layers") under an optional writable directory and shows them as one
//! file system, through FUSE, with the on-disk formats of kernel overlayfs.
//!
//! | module | what it holds |
//! |---|---|
//! | [`sys`] | every system call that the standard library lacks, on (directory descriptor, name); the only home of `unsafe` |
//! | [`layer`] | the on-disk format of one layer: whiteouts, opaque directories, redirects, origins |
//! | [`overlay`] | the union: lookup, listing, copy-up, create, remove, rename, attributes, file data. Knows nothing of FUSE |
//! | [`archive`] | a layer as a tar stream, and as a directory |
//! | [`changes`] | what a writable layer changes; layers and archives made from that |
//! | [`image`] | OCI and Docker image data and the containers it comes in |
//! | [`store`] | the store on disk: blobs, layers, images, references, writable layers |
//! | [`engine`] | layers in the storage of podman and Docker |
//! | [`provenance`] | which layer gives a path, what hides it, what is wasted |
//! | [`fuse`] | the adapter from the `fuser` crate to [`overlay`], and mounting |
//! | [`mounted`] | a mount that lives as long as a value, for integration tests |
//! | [`cli`] | the command line |
//!
//! Kernel features and what happens without them:
//!
//! | feature | used for | without it |
//! |---|---|---|
//! | `open_tree(2)` + `mount_setattr(2)` | lower layers are held through private read-only mounts | plain descriptors, only ever opened `O_RDONLY` |
//! | `openat2(2)` | paths inside a layer never leave it | component by component, `O_NOFOLLOW` |
//! | `name_to_handle_at(2)` | `overlay.origin`, the hard link index | the names of a link known at its copy-up are joined, the others not |
//! | `getxattrat(2)` and relatives | attributes by name | through `/proc/self/fd` |
//! | `trusted.*` attributes | markers | `user.overlay.*` |
//! | reflinks | copy-up without copying | `copy_file_range(2)`, then read and write |
//! | `RENAME_WHITEOUT` | deleting and moving in one step | refused at mount |

pub mod archive;
pub mod changes;
pub mod cli;
pub mod engine;
pub mod fuse;
pub mod image;
pub mod layer;
pub mod mounted;
pub mod overlay;
pub mod provenance;
pub mod store;
pub mod sys;
