//! What needs all entries of a tar: hard links, markers, and the array that a layer is.

use super::{Making, Object, State, TO_DIRECTORY, Unsettled, budget};
use crate::archive::{self, Error, MAX_CHAIN, Result, split};
use crate::provenance;
use crate::provenance::entry::{Entry, Kind, NONE};
use crate::provenance::layer::{EntryId, add_text, join_names};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

impl Making<'_> {
    /// Resolves the hard links that waited; what is not in this layer is in one below.
    fn links(&mut self) -> Result<Vec<(u32, Vec<u8>)>> {
        let (mut below, mut waiting) = (Vec::new(), std::mem::take(&mut self.waiting));
        if !waiting.is_empty() {
            let live = self.live();
            waiting.retain(|(id, ..)| live[*id as usize]);
        }
        let mut rounds = 0;
        while let Some((_, name, target)) = waiting.first().cloned() {
            rounds += 1;
            // As `archive::complete` has it.
            if rounds > MAX_CHAIN {
                return Err(Error::Limit(format!("more than {MAX_CHAIN} hard links to each other in a row").into()));
            }
            let before = waiting.len();
            let mut next = Vec::new();
            for (id, name, target) in waiting {
                match self.find(&target, &name)? {
                    Some(found) if self.get(found).state == State::Waiting => next.push((id, name, target)),
                    Some(found) if self.get(found).entry.is_dir() => return Err(Error::entry(&name, TO_DIRECTORY)),
                    Some(found) => {
                        let further = self.further_name(found)?;
                        let parent = self.get(id).entry.parent;
                        self.objects.swap(id as usize, further as usize);
                        self.objects[id as usize].entry.parent = parent;
                    }
                    None => {
                        self.objects[id as usize].state = State::Below;
                        self.objects[id as usize].entry.kind = Kind::File;
                        below.push((id, target));
                    }
                }
            }
            if next.len() == before {
                let what = format!("is a hard link to '{}', which leads back to it", archive::shown(&target));
                return Err(Error::entry(&name, what));
            }
            waiting = next;
        }
        Ok(below)
    }

    /// Which objects have not been replaced since.
    fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.objects.len()];
        let mut work = vec![0];
        while let Some(id) = work.pop() {
            live[id as usize] = true;
            if self.get(id).entry.is_dir() {
                work.extend(self.directories[self.get(id).children].values());
            }
        }
        live
    }

    pub(super) fn finish(mut self, read: archive::Digests) -> Result<Unsettled> {
        let links = self.links()?;
        for path in self.opaque.iter().chain(&self.whiteouts) {
            if let Some(id) = self.at(path).filter(|id| self.get(*id).entry.is_dir()) {
                self.objects[id as usize].entry.opaque = true;
            }
        }
        for path in std::mem::take(&mut self.whiteouts) {
            let (dir, name) = split(&path).unwrap_or_default();
            let Some(dir) = self.at(dir).filter(|id| self.get(*id).entry.is_dir()) else { continue };
            if self.child(dir, name).is_none() {
                let entry = Entry::new(Kind::Whiteout);
                let id = self.object(Object { entry, children: 0, target: Vec::new(), state: State::Made })?;
                self.put(dir, name, id)?;
            }
        }
        self.lay_out(&links, read).map_err(|_| Error::Limit("its names are longer than 4 GiB together".into()))
    }

    /// Puts the objects that are left into an array, the children of each directory side by side.
    fn lay_out(mut self, below: &[(u32, Vec<u8>)], read: archive::Digests) -> provenance::Result<Unsettled> {
        let (mut entries, mut text, mut names) = (Vec::with_capacity(self.objects.len()), Vec::new(), Vec::new());
        entries.push(self.get(0).entry);
        let mut below_of: FxHashMap<u32, &Vec<u8>> = below.iter().map(|(id, path)| (*id, path)).collect();
        let (mut links, mut work) = (Vec::new(), VecDeque::from([(0, 0_u32)]));
        while let Some((directory, place)) = work.pop_front() {
            let children = std::mem::take(&mut self.directories[directory]);
            let start = u32::try_from(entries.len()).unwrap_or(NONE);
            entries[place as usize].children = (start, u32::try_from(children.len()).unwrap_or(NONE));
            for (at, (name, id)) in (start..).zip(children) {
                let object = self.get(id);
                let mut entry = object.entry;
                entry.parent = place;
                entry.name = add_text(&mut text, &name)?;
                entry.target = add_text(&mut text, &object.target)?;
                if entry.first != NONE {
                    entry.further = entry.first != id;
                    names.push(((0, entry.first.into()), at));
                }
                if entry.is_dir() {
                    work.push_back((object.children, at));
                }
                if let Some(path) = below_of.remove(&id) {
                    links.push((EntryId(at), path.clone()));
                }
                entries.push(entry);
            }
        }
        join_names(&mut entries, &text, names);
        entries.shrink_to_fit();
        text.shrink_to_fit();
        let waiting: usize = links.iter().map(|(_, path): &(EntryId, Vec<u8>)| budget::PATH + path.len()).sum();
        let kept = entries.len() * budget::KEPT + text.len() + self.digests.len() * budget::DIGEST + waiting;
        self.budget.give(self.taken.saturating_sub(kept));
        Ok(Unsettled { entries, text, digests: self.digests, links, read })
    }
}
