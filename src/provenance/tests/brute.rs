//! The same questions answered the slow way: layers are applied one after the other to a map of paths.

use super::generate::{Item, Layer, What, ancestors};
use crate::provenance::Reason;
use std::collections::BTreeMap;

/// An object as a view shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub kind: &'static str,
    pub mode: u32,
    pub uid: u64,
    pub mtime: u64,
    /// Content of a file, target of a link.
    pub data: String,
    /// The layer that gives it, counted from 1.
    pub layer: usize,
    /// Which file of its layer: the smallest of its paths there.
    pub first: String,
}

impl Object {
    fn attributes(&self) -> (u32, u64, u64) {
        (self.mode, self.uid, self.mtime)
    }
}

pub type View = BTreeMap<String, Object>;

/// A file that nobody sees in the end: layer, first path, hiding layer, reason, bytes.
pub type Hidden = (usize, String, usize, Reason, u64);

/// Stacks applied one by one.
#[derive(Default)]
pub struct Brute {
    /// The views up to each layer.
    pub views: Vec<View>,
    /// What each layer has, as it would show.
    pub own: Vec<View>,
    /// When and why each (layer, path) went.
    gone: BTreeMap<(usize, String), (usize, Reason)>,
}

impl Brute {
    pub fn files_below(&self) -> Vec<String> {
        let view = self.views.last().into_iter().flatten();
        view.filter(|(_, object)| object.kind != "directory").map(|(path, _)| path.clone()).collect()
    }

    pub fn apply(&mut self, layer: &Layer) {
        let number = self.views.len() + 1;
        let before = self.views.last().cloned().unwrap_or_default();
        let own = resolve(layer, &before, number);
        let mut view = before.clone();
        for path in before.keys() {
            if let Some(reason) = fate(layer, &own, &before, path) {
                let gone = view.remove(path).unwrap();
                self.gone.entry((gone.layer, path.clone())).or_insert((number, reason));
            }
        }
        for (path, object) in &own {
            view.insert(path.clone(), object.clone());
        }
        self.views.push(view);
        self.own.push(own);
    }

    pub fn hidden(&self) -> Vec<Hidden> {
        let last = self.views.last().unwrap();
        let mut hidden = Vec::new();
        for (at, own) in self.own.iter().enumerate() {
            let layer = at + 1;
            for (path, object) in own.iter().filter(|(path, object)| object.kind == "file" && **path == object.first) {
                let seen = last.values().any(|o| o.layer == layer && o.first == object.first && o.kind == "file");
                if !seen {
                    // Waste since its last name went.
                    let names = own.iter().filter(|(_, o)| o.first == *path).map(|(name, _)| name);
                    let gone = |name: &String| self.gone[&(layer, name.clone())];
                    let last = names.clone().map(|name| gone(name).0).max().unwrap();
                    let name = names.into_iter().find(|name| gone(name).0 == last).unwrap();
                    hidden.push((layer, name.clone(), last, gone(name).1, object.data.len() as u64));
                }
            }
        }
        hidden.retain(|h| h.4 > 0);
        hidden.sort();
        hidden
    }

    /// What a view counts at and below each path: each file once, at the first of its names that is seen.
    pub fn sizes(view: &View) -> BTreeMap<String, u64> {
        let mut first: BTreeMap<(usize, &str), &String> = BTreeMap::new();
        let files = view.iter().filter(|(_, object)| object.kind == "file");
        for (path, object) in files {
            let parts = |path: &String| path.split('/').map(str::to_owned).collect::<Vec<_>>();
            let known = first.entry((object.layer, &object.first)).or_insert(path);
            *known = std::cmp::min_by_key(*known, path, |path| parts(path));
        }
        let below = |top: &String, path: &String| path == top || path.starts_with(&format!("{top}/"));
        let size = |top: &String| {
            first.values().filter(|path| below(top, path)).map(|path| view[*path].data.len() as u64).sum()
        };
        view.keys().map(|path| (path.clone(), size(path))).collect()
    }

    /// Where a path leads in a view, links on the way followed, the last one too if `follow`.
    pub fn resolve(view: &View, path: &str, follow: bool) -> Option<String> {
        let (mut at, mut todo, mut links) = (Vec::new(), path.rsplit('/').map(str::to_owned).collect::<Vec<_>>(), 0);
        while let Some(part) = todo.pop() {
            match part.as_str() {
                ".." => drop(at.pop()),
                _ => at.push(part),
            }
            let Some(found) = Some(at.join("/")).filter(|path| !path.is_empty()) else { continue };
            let object = view.get(&found)?;
            if object.kind == "symlink" && (follow || !todo.is_empty()) {
                links += 1;
                at.pop();
                at.truncate(if object.data.starts_with('/') { 0 } else { at.len() });
                todo.extend(object.data.trim_start_matches('/').rsplit('/').map(str::to_owned));
            }
            if links > 40 || object.kind != "directory" && object.kind != "symlink" && !todo.is_empty() {
                return None;
            }
        }
        Some(at.join("/"))
    }

    pub fn total(&self) -> u64 {
        let files = self.own.iter().flatten().filter(|(path, o)| o.kind == "file" && **path == o.first);
        files.map(|(_, object)| object.data.len() as u64).sum()
    }
}

/// What a layer has, with hard links and directories that are only implied as they come out on top of `before`.
fn resolve(layer: &Layer, before: &View, number: usize) -> View {
    let mut own = View::new();
    let object = |item: &Item, kind, data: &str| Object {
        kind,
        mode: item.mode,
        uid: item.uid,
        mtime: item.mtime,
        data: data.to_owned(),
        layer: number,
        first: String::new(),
    };
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, item) in &layer.items {
        let (made, group) = match &item.what {
            What::File(content) => (object(item, "file", content), path.clone()),
            What::Symlink(target) => (Object { mode: 0o777, ..object(item, "symlink", target) }, path.clone()),
            What::Fifo => (object(item, "fifo", ""), path.clone()),
            What::Directory if item.implied => {
                let lower = before.get(path).filter(|object| object.kind == "directory").cloned();
                let usual = Object { mode: 0o755, uid: 0, mtime: 0, ..object(item, "directory", "") };
                (Object { layer: number, ..lower.unwrap_or(usual) }, path.clone())
            }
            What::Directory => (object(item, "directory", ""), path.clone()),
            What::Link(target) => {
                let What::File(content) = &layer.items[target].what else { panic!() };
                (object(&layer.items[target], "file", content), target.clone())
            }
            What::LinkBelow(target) => {
                let lower = before[target].clone();
                // Links to one file are one file.
                let group = format!("below {} {}", lower.layer, lower.first);
                (Object { layer: number, ..lower }, group)
            }
        };
        groups.entry(group).or_default().push(path.clone());
        own.insert(path.clone(), made);
    }
    for paths in groups.values() {
        for path in paths {
            own.get_mut(path).unwrap().first.clone_from(&paths[0]);
        }
    }
    own
}

/// Why a layer hides a path of the view below, if it does.
fn fate(layer: &Layer, own: &View, before: &View, path: &str) -> Option<Reason> {
    let is_dir = |object: &Object| object.kind == "directory";
    let opaque = |path: &str| layer.items[path].opaque || layer.whiteouts.iter().any(|whiteout| whiteout == path);
    let old = &before[path];
    if let Some(new) = own.get(path) {
        if is_dir(new) && is_dir(old) && !opaque(path) {
            // The attributes are those of the layer, also where the directory above is opaque.
            return Some(Reason::Superseded);
        }
        return Some(match (old.kind == "file" && new.kind == "file" && old.data == new.data, new) {
            (false, _) => Reason::Superseded,
            (true, new) if new.attributes() == old.attributes() => Reason::Identical,
            (true, _) => Reason::MetadataOnly,
        });
    }
    for above in ancestors(path) {
        match own.get(above) {
            Some(object) if !is_dir(object) => return Some(Reason::ParentReplaced),
            Some(_) if opaque(above) => return Some(Reason::ParentOpaque),
            None if layer.whiteouts.iter().any(|whiteout| whiteout == above) => return Some(Reason::ParentDeleted),
            _ => {}
        }
    }
    layer.whiteouts.iter().any(|whiteout| whiteout == path).then_some(Reason::Deleted)
}
