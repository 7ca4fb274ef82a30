//! `laminafs diff A B`.

use super::DiffArgs;
use super::unified::{self, File};
use crate::cli::complain;
use crate::cli::context::Context;
use crate::cli::entries::{EntryObject, absolute, shown};
use crate::cli::output::{self, Pieces, SCHEMA, Stream};
use crate::cli::place::Place;
use crate::cli::target::Target;
use crate::image::format::size4;
use crate::provenance::{Content, Delta, Kind, Merged, Seen, Side, View, differences, total};
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;

/// Files that are longer are not compared line by line.
const TEXT: u64 = 1 << 20;
/// The most bytes of files that are held at a time.
const BATCH: u64 = 32 << 20;

/// What is compared: `TARGET[@N]` or `TARGET#N`.
struct Compared {
    place: Place,
    /// The layer behind `#`.
    alone: Option<usize>,
}

impl Compared {
    fn parse(text: &OsStr) -> anyhow::Result<Self> {
        let bytes = text.as_bytes();
        let hash = bytes.iter().rposition(|b| *b == b'#').and_then(|at| {
            let number: usize = std::str::from_utf8(&bytes[at + 1..]).ok()?.parse().ok()?;
            Some((OsStr::from_bytes(&bytes[..at]), number))
        });
        let (target, alone) = hash.map_or((text, None), |(target, number)| (target, Some(number)));
        Ok(Self { place: Place::parse(target)?, alone })
    }

    /// Whether all that one looks at for the other is read for this one, too.
    fn includes(&self, other: &Self) -> bool {
        let all = |compared: &Self| compared.place.layers.unwrap_or(usize::MAX);
        self.place.is_beside(&other.place) && all(self) >= all(other)
    }

    /// What it is in a target that was read for it, or for one that includes it.
    fn side<'a>(&self, target: &'a Target) -> anyhow::Result<Side<'a>> {
        let merged = &target.merged;
        let up_to = || self.place.layers.map_or(Ok(merged.top()), |layers| merged.number(layers)).map(View::UpTo);
        let view = self.alone.map_or_else(up_to, |number| merged.number(number).map(View::Alone))?;
        Ok(Side { merged, view })
    }
}

#[derive(Serialize)]
struct DeltaObject {
    kind: &'static str,
    path: String,
    differs: Vec<&'static str>,
    before: Option<EntryObject>,
    after: Option<EntryObject>,
}

/// Prints in what two targets differ.
pub fn run(args: &DiffArgs, a: &OsString, b: &OsString, context: &Context) -> anyhow::Result<()> {
    let (one, other) = (Compared::parse(a)?, Compared::parse(b)?);
    // Two moments of one target are read once.
    let whole = [&one, &other].into_iter().find(|whole| whole.includes(&one) && whole.includes(&other));
    let old = args.places.read(&whole.unwrap_or(&one).place, context)?.whole()?;
    let new = if whole.is_some() { None } else { Some(args.places.read(&other.place, context)?.whole()?) };
    let (before, after) = (one.side(&old)?, other.side(new.as_ref().unwrap_or(&old))?);
    let mut deltas = Vec::new();
    differences(before, after, &mut |delta| {
        deltas.push(delta);
        Ok(())
    })?;
    old.check()?;
    new.as_ref().map_or(Ok(()), Target::check)?;
    if args.json {
        #[derive(Serialize)]
        struct Document<C> {
            schema: u32,
            a: String,
            b: String,
            changes: C,
        }
        let [a, b] = [a, b].map(|text| text.to_string_lossy().into_owned());
        let changes = Stream::new(deltas.iter().map(|delta| object(before, after, delta)));
        return output::document(&Document { schema: SCHEMA, a, b, changes });
    }
    match () {
        () if args.stat => stat(before, after, &deltas),
        () if args.content => contents(before, after, &deltas),
        () => lines(before, after, &deltas),
    }
}

fn letter(delta: &Delta<'_>) -> char {
    match (&delta.before, &delta.after) {
        (None, _) => 'A',
        (_, None) => 'D',
        _ => 'C',
    }
}

fn lines(a: Side<'_>, b: Side<'_>, deltas: &[Delta<'_>]) -> anyhow::Result<()> {
    let mut out = Pieces::default();
    for delta in deltas {
        let words = delta.difference.words();
        let path = shown(&delta.path(a, b));
        match words.as_slice() {
            [] | ["content"] => out.line(&format!("{} {path}", letter(delta)))?,
            words => out.line(&format!("{} {path} ({})", letter(delta), words.join(", ")))?,
        }
    }
    out.end()
}

fn object(a: Side<'_>, b: Side<'_>, delta: &Delta<'_>) -> DeltaObject {
    let entry =
        |side: Side<'_>, seen: Option<Seen<'_>>| seen.map(|(node, found)| EntryObject::new(side.merged, node, found));
    DeltaObject {
        kind: match letter(delta) {
            'A' => "added",
            'D' => "deleted",
            _ => "changed",
        },
        path: absolute(&delta.path(a, b)),
        differs: delta.difference.words(),
        before: entry(a, delta.before),
        after: entry(b, delta.after),
    }
}

/// Bytes of what stands at a path; of a directory that was deleted as a whole, all that was in it.
fn size(side: Side<'_>, seen: Option<Seen<'_>>, all: bool) -> u64 {
    let Some((node, found)) = seen else { return 0 };
    let file = |found| {
        let entry = side.merged.entry(found);
        if entry.kind == Kind::File { entry.size } else { 0 }
    };
    if !all {
        return file(found);
    }
    total(side.merged.walk(node, side.view, None).map(|(_, found, _)| file(found)))
}

#[derive(Default)]
struct Sum {
    paths: u64,
    before: u64,
    after: u64,
}

fn stat(a: Side<'_>, b: Side<'_>, deltas: &[Delta<'_>]) -> anyhow::Result<()> {
    let (mut out, mut sums) = (Pieces::default(), [Sum::default(), Sum::default(), Sum::default()]);
    for delta in deltas {
        // As a whole: deleted, or replaced by what is no directory.
        let is_dir =
            |side: Side<'_>, seen: Option<Seen<'_>>| seen.is_some_and(|(_, found)| side.merged.entry(found).is_dir());
        let gone = is_dir(a, delta.before) && !is_dir(b, delta.after);
        let (before, after) = (size(a, delta.before, gone), size(b, delta.after, false));
        let at = match letter(delta) {
            'A' => 0,
            'C' => 1,
            _ => 2,
        };
        let only_on_the_way = at == 1 && !delta.difference.any();
        if only_on_the_way {
            continue;
        }
        let sum = &mut sums[at];
        let both = (total([sum.before, before]), total([sum.after, after]));
        (sum.paths, sum.before, sum.after) = (sum.paths + 1, both.0, both.1);
        out.line(&format!("{} {:>10} {}", letter(delta), change(before, after), shown(&delta.path(a, b))))?;
    }
    let part = |sum: &Sum, what| format!("{} {what} ({})", sum.paths, change(sum.before, sum.after));
    let [added, changed, deleted] = &sums;
    let all = change(total(sums.iter().map(|sum| sum.before)), total(sums.iter().map(|sum| sum.after)));
    let parts = [part(added, "added"), part(changed, "changed"), part(deleted, "deleted")];
    out.line(&format!("{}: {all}", parts.join(", ")))?;
    out.end()
}

fn change(before: u64, after: u64) -> String {
    match after.cmp(&before) {
        std::cmp::Ordering::Less => format!("-{}", size4(before - after)),
        std::cmp::Ordering::Equal => "0B".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", size4(after - before)),
    }
}

/// Prints the changes in texts, reading as many files at a time as fit into memory.
fn contents(a: Side<'_>, b: Side<'_>, deltas: &[Delta<'_>]) -> anyhow::Result<()> {
    let is_file =
        |merged: &Merged, seen: Option<Seen<'_>>| seen.is_none_or(|(_, found)| merged.entry(found).kind == Kind::File);
    let differs = |delta: &&Delta<'_>| {
        let changed =
            delta.before.is_none() || delta.after.is_none() || delta.difference.content || delta.difference.changing;
        changed && is_file(a.merged, delta.before) && is_file(b.merged, delta.after)
    };
    let mut rest: Vec<&Delta<'_>> = deltas.iter().filter(differs).collect();
    rest.reverse();
    let (mut out, terminal) = (Pieces::default(), io::stdout().is_terminal());
    while !rest.is_empty() {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(delta) = rest.pop() {
            bytes += size(a, delta.before, false).min(TEXT) + size(b, delta.after, false).min(TEXT);
            batch.push(delta);
            if bytes >= BATCH {
                break;
            }
        }
        let read = |side: Side<'_>, pick: fn(&Delta<'_>) -> bool, seen: Vec<Seen<'_>>| {
            let mut contents = side.merged.contents(&seen, TEXT)?.into_iter();
            Ok::<_, anyhow::Error>(
                batch.iter().map(|d| if pick(d) { contents.next() } else { None }).collect::<Vec<_>>(),
            )
        };
        let olds = read(a, |d| d.before.is_some(), batch.iter().filter_map(|d| d.before).collect())?;
        let news = read(b, |d| d.after.is_some(), batch.iter().filter_map(|d| d.after).collect())?;
        for ((delta, old), new) in batch.iter().zip(olds).zip(news) {
            if [&old, &new].contains(&&Some(Content::Changed)) {
                let path = shown(&delta.path(a, b));
                complain(&format!("note: {path} was removed or exchanged while it was read; its lines are left out"));
                continue;
            }
            let [old, new] = [old, new].map(|content| match content {
                None => File::Absent,
                Some(Content::Left | Content::Changed) => File::Long,
                Some(Content::Bytes(bytes)) => File::Bytes(bytes),
            });
            for line in unified::lines(&delta.path(a, b), &old, &new) {
                out.content(&line, terminal)?;
            }
        }
    }
    out.end()
}
