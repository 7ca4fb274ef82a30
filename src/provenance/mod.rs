//! Layers and the tree they merge to, for inspection: which layer gives a path, what hides it, what is wasted.
//!
//! The layers of a stack are read once, from layer directories ([`Merged::of_directories`], [`Merged::of_image`],
//! [`Merged::of_writable`]) or from an archive or layout that is not loaded ([`Merged::of_image_in`]). [`Merged`] then
//! answers for all views at once, from that of the lowest layer alone to that of the whole stack. Nothing is mounted,
//! nothing unpacked.
//!
//! - A [`Layer`] has [`Facts`] (digests, sizes, the command that made it) and a tree of [`Entry`], reached by [`EntryId`].
//!   It has a [`Number`]: 1 is the lowest, as in `IMAGE@N`; [`Merged::numbers`] lists them.
//! - A path of the merged tree is a [`NodeId`]. Walk it from [`NodeId::ROOT`] with [`Merged::children`], or find it with
//!   [`Merged::find`] and [`Merged::resolve`]. Ids of parents are smaller than those of what is in them, so one pass over
//!   [`Merged::nodes`] in reverse adds things up.
//! - What layers have at a path are its [`Occurrence`]s, lowest layer first ([`Merged::occurrences`]): the entry, the layer
//!   that hides it ([`Occurrence::hidden_by`]) and why ([`Occurrence::end`]). [`Merged::visible`] is the one that the view
//!   up to a layer shows, [`Merged::seen`] the same for any [`View`]; [`Merged::entry`] gets from it to the entry.
//!
//! ```no_run
//! # fn main() -> laminafs::provenance::Result<()> {
//! use laminafs::provenance::{LayerDirectory, Merged, NodeId};
//! let layers = ["/layers/base", "/layers/app"].map(|path| LayerDirectory::new(path.into()));
//! let merged = Merged::of_directories("app", None, layers.into())?;
//! for (node, found) in merged.seen_children(NodeId::ROOT, merged.top()) {
//!     println!("{} comes from layer {}", merged.name(node).escape_ascii(), found.layer());
//! }
//! # Ok(()) }
//! ```
//!
//! | question | module |
//! |---|---|
//! | What is an entry, a layer? | `entry`, `layer` |
//! | How is a layer directory read, or its inventory; a layer in an archive? | `walk` and `listing`; `tar` and `settle` |
//! | What of a layer directory may not be read? | `unread` ([`Merged::check_read`]) |
//! | How do they merge, what hides what? | `tree`; redirects and looking up before that, `follow` |
//! | Lower files that a writable layer has under another name? | `index` |
//! | What does one ask of the result? | `merged` |
//! | Which directories were moved, and from where? | `moved` ([`Merged::moved_from`]) |
//! | Where does a path lead? | `resolve` ([`Merged::resolve`], [`Merged::trace`]) |
//! | What does a layer change at a path? | `compare` ([`Merged::touches`]) |
//! | In what do two views differ? | `difference` |
//! | What does a layer change in the merged view? | `step` ([`Merged::step`]) |
//! | What does each layer add up to? | `summary` ([`Merged::summaries`]) |
//! | At which of its names does a file count? | `counting` ([`Merged::sizes`]) |
//! | Which bytes does nobody see? | `waste` ([`Merged::waste`], [`Merged::hidden`]); the score of dive `dive` |
//! | Digests; contents | `contents`; `read`, `origin` |
//! | From a place to a merged tree | `open`, `store` |

mod batch;
mod compare;
mod contents;
mod counting;
mod difference;
mod dive;
mod entry;
mod error;
mod follow;
mod index;
mod layer;
mod listing;
mod merged;
mod moved;
mod open;
mod origin;
mod outline;
mod read;
mod resolve;
mod settle;
mod step;
mod store;
mod summary;
mod tar;
#[cfg(test)]
mod tests;
mod total;
mod tree;
mod unread;
mod walk;
mod waste;

pub use batch::Content;
pub use compare::{Action, Difference, Place, Touch, compare};
pub use difference::{Delta, Seen, Side, differences};
pub use entry::{Entry, Kind};
pub use error::{Error, Result};
pub use layer::{Counts, EntryId, Facts, Layer};
pub use merged::{Merged, View};
pub use open::{LayerDirectory, Stack, facts};
pub use outline::{Bounds, Bytes, Fate, Loss, Outline, Sum};
pub use resolve::Lost;
pub use step::{Mark, Step};
pub use summary::Summary;
pub use total::total;
pub use tree::{End, NodeId, Number, Occurrence};
pub use waste::{Hidden, Reason, Waste};
