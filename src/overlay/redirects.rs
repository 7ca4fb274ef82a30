//! Before a rename: bringing an object to upper so that it can have another name there, and of a directory recording where its
//! lower part is.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::Overlay;
use super::dir::LowerDir;
use super::error::{Error, Result};
use super::inode::Inode;
use super::rename::Side;
use crate::layer::redirect::{MAX_LEN, Redirect};
use crate::layer::xattr::Marker;
use crate::sys::{At, xattr};

impl Overlay {
    /// Brings an object to upper so that its name `from` can become `to`, and for a directory with something below it
    /// records where its lower part is.
    pub(super) fn prepare_moved(&self, from: &Side<'_>, to: &Side<'_>, object: &Arc<Inode>) -> Result<()> {
        let Some(dir) = &object.dir else {
            self.copy_up_whole(object)?;
            self.copy_up_dir(to.parent)?;
            self.mark_nested_for(object, self.upper_dir(to.parent)?.as_fd())?;
            let link = object.link(from.parent, from.name).ok_or(Error::NotFound)?;
            return self.link_up(object, &link);
        };
        let merged = !dir.ns.read().lowers.is_empty();
        if merged && !self.redirect && !self.flatten {
            return Err(Error::CrossDevice);
        }
        self.copy_up_dir(object)?;
        let fd = self.upper_dir(object)?;
        if merged {
            let same_dir = Arc::ptr_eq(from.parent, to.parent);
            if self.redirect && self.set_redirect(object, from, At::Fd(fd.as_fd()), same_dir)? {
                return Ok(());
            }
            return if self.flatten { self.flatten(object) } else { Err(Error::CrossDevice) };
        }
        // Only in upper: it must not merge with what lies below its new name.
        if !to.parent.dir.as_ref().ok_or(Error::NotDirectory)?.ns.read().lowers.is_empty() {
            let xwhiteouts = dir.ns.read().xwhiteouts;
            self.mark_opaque(At::Fd(fd.as_fd()), xwhiteouts)?;
        }
        Ok(())
    }

    /// Writes `overlay.redirect`: the old name if the directory stays in its parent, else its path from the root of the
    /// layers. Until the rename it points to where the directory is anyway, so a crash in between changes nothing.
    /// False if it is too long, or does not lead back to where the directory is.
    fn set_redirect(&self, object: &Arc<Inode>, from: &Side<'_>, at: At<'_>, same_dir: bool) -> Result<bool> {
        let marker = self.markers.name(Marker::Redirect);
        let known = xattr::get(at, marker)?.and_then(|v| Redirect::parse(&v));
        let redirect = match known {
            Some(Redirect::Absolute(_)) => return Ok(true),
            Some(Redirect::Name(_)) if same_dir => return Ok(true),
            _ if same_dir => Redirect::Name(from.name.as_encoded_bytes().to_vec()),
            _ => Redirect::Absolute(self.path_for_redirect(object)?),
        };
        let value = redirect.encode();
        if value.len() > MAX_LEN || !self.leads_back(object, from, redirect)? {
            return Ok(false);
        }
        self.mark(at, Marker::Redirect, &value)?;
        Ok(true)
    }

    /// Whether following the redirect finds the lower directories that the object has now. It does not where a layer in
    /// between has redirects of its own on the way.
    fn leads_back(&self, object: &Arc<Inode>, from: &Side<'_>, redirect: Redirect) -> Result<bool> {
        let mut found = Vec::new();
        {
            let parent = from.parent.dir.as_ref().ok_or(Error::NotDirectory)?.ns.read();
            self.follow(&parent, redirect, &mut found)?;
        }
        let ns = object.dir.as_ref().ok_or(Error::NotDirectory)?.ns.read();
        let same = |(a, b): (&LowerDir, &LowerDir)| a.layer == b.layer && a.path == b.path;
        Ok(found.len() == ns.lowers.len() && found.iter().zip(&ns.lowers).all(same))
    }

    /// The path under which the layers below know a merged directory. All its lower copies must agree for it to be
    /// found again; they do unless a layer in between has redirects itself, and then the path of the first counts.
    fn path_for_redirect(&self, object: &Arc<Inode>) -> Result<Vec<u8>> {
        let dir = object.dir.as_ref().ok_or(Error::NotDirectory)?;
        let ns = dir.ns.read();
        let first = ns.lowers.first().ok_or(Error::Stale)?;
        Ok(first.path.as_encoded_bytes().to_vec())
    }
}
