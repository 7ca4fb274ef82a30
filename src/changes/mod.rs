//! What a writable layer changes, and layers and archives made from that.
//!
//! Everything is read through the union ([`crate::overlay`], without a mount), so that redirects, metacopy files, hard
//! links of the index, whiteouts and opaque directories in any form mean here what they mean in a mount. A writable layer
//! that is mounted is opened *frozen*: nothing is locked or written, and the mount goes on. What is promised then:
//!
//! - each file is read once, as upper has it at that moment; what a running program writes meanwhile may be half there,
//!   as in a backup of a running system;
//! - a file that becomes shorter, changes its type or goes while it is read is an error, never a silent gap.
//!
//! | question | module |
//! |---|---|
//! | Which two trees are compared? | `union` |
//! | What is added, changed, deleted, in which order? | `compare` |
//! | When are two objects the same? | `same` |
//! | Which names belong to one file? | `links` |
//! | How does that become a tar? | `pack` |

mod compare;
mod error;
mod links;
mod pack;
mod same;
#[cfg(test)]
mod tests;
mod union;

pub use compare::{Change, Kind, Rule};
pub use error::{Error, Result};
pub use pack::Packed;
pub use union::{Stack, Union};
