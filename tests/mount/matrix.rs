//! Who may do what: every case runs as several users on three copies of one tree, a bare directory of the file system
//! that upper is on, the mount with the tree in the lower layer, and the mount with the tree in upper. What the calls
//! return and what the tree looks like afterwards must be the same.

mod acl;
mod attributes;
mod names;
mod opening;
mod privileges;

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::harness::{Bed, Setup, has};
use super::os;
use super::snapshot::hash;

/// A caller: user id, group id and supplementary groups.
#[derive(Clone, Copy)]
pub struct User {
    name: &'static str,
    uid: u32,
    gid: u32,
    groups: &'static [u32],
    capabilities: Capabilities,
}

#[derive(Clone, Copy, PartialEq)]
enum Capabilities {
    /// All for root, none for others.
    Usual,
    /// The other way round.
    Unusual,
}

const fn user(name: &'static str, uid: u32, gid: u32, groups: &'static [u32]) -> User {
    User { name, uid, gid, groups, capabilities: Capabilities::Usual }
}

/// Owner and group of everything in a tree unless it says otherwise.
pub const OWNER: u32 = 1000;
pub const GROUP: u32 = 2000;
/// A second group of one of the users, which access control lists name.
pub const TEAM: u32 = 3000;
/// The user that access control lists name.
pub const NAMED: u32 = 1003;

const USUAL: [User; 6] = [
    user("root", 0, 0, &[]),
    user("owner", OWNER, 1000, &[]),
    user("owner in the group", OWNER, 1000, &[GROUP]),
    user("member", 1001, GROUP, &[]),
    user("supplementary member", 1002, 1002, &[TEAM, GROUP]),
    user("other", NAMED, 1003, &[]),
];

const USERS: [User; 8] = {
    let [root, owner, insider, member, supplementary, other] = USUAL;
    let incapable = User { name: "root without capabilities", capabilities: Capabilities::Unusual, ..root };
    let capable = User { name: "other with capabilities", capabilities: Capabilities::Unusual, ..other };
    [root, owner, insider, member, supplementary, other, incapable, capable]
};

/// The users for writing. Where the kernel does not say whether set-id bits go, user 0 counts as the one who keeps them.
fn everybody() -> Vec<User> {
    if has(&["handle_killpriv_v2"]) { USERS.to_vec() } else { USUAL.to_vec() }
}

/// One line of a table.
pub struct Case {
    pub name: &'static str,
    /// Makes the tree, as root.
    pub setup: fn(&Tree) -> &Tree,
    /// Says what the calls returned.
    pub run: fn(&Stage) -> String,
}

/// The directory of one case, for making what is in it.
pub struct Tree(PathBuf);

impl Tree {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn own(&self, name: &str, mode: u32) -> &Self {
        self.chown(name, OWNER, GROUP).chmod(name, mode)
    }

    pub fn file(&self, name: &str, mode: u32) -> &Self {
        fs::write(self.path(name), "what was in the file before").unwrap();
        self.own(name, mode)
    }

    pub fn dir(&self, name: &str, mode: u32) -> &Self {
        fs::create_dir(self.path(name)).unwrap();
        self.own(name, mode)
    }

    pub fn symlink(&self, name: &str, target: &str) -> &Self {
        symlink(target, self.path(name)).unwrap();
        self.chown(name, OWNER, GROUP)
    }

    pub fn fifo(&self, name: &str, mode: u32) -> &Self {
        os::mknod(&self.path(name), FileType::Fifo, 0o600, 0, 0).unwrap();
        self.own(name, mode)
    }

    pub fn chown(&self, name: &str, uid: u32, gid: u32) -> &Self {
        lchown(self.path(name), Some(uid), Some(gid)).unwrap();
        self
    }

    pub fn chmod(&self, name: &str, mode: u32) -> &Self {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn xattr(&self, name: &str, attribute: &str, value: &[u8]) -> &Self {
        os::set_xattr(&self.path(name), attribute, value).unwrap();
        self
    }
}

/// Where one user runs one case.
pub struct Stage {
    root: PathBuf,
    user: User,
}

impl Stage {
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Runs `work` with the ids of the user, without capabilities unless that is root, and with the umask.
    pub fn with_umask<T: Send>(&self, umask: u32, work: impl FnOnce(&Path) -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                become_user(&self.user, umask);
                work(&self.root)
            });
            thread.join().unwrap()
        })
    }

    pub fn user<T: Send>(&self, work: impl FnOnce(&Path) -> T + Send) -> T {
        self.with_umask(0o022, work)
    }

    /// Runs one call as the user.
    pub fn call<T>(&self, call: impl FnOnce(&Path) -> io::Result<T> + Send) -> String {
        self.user(|p| code(call(p)))
    }
}

/// `ok`, or the number of the error.
pub fn code<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(e) => format!("error {}", e.raw_os_error().unwrap_or(-1)),
    }
}

/// Results of several calls.
pub fn codes<const N: usize>(results: [io::Result<()>; N]) -> String {
    results.map(code).join(", ")
}

/// Makes this thread the user, with the umask.
fn become_user(user: &User, umask: u32) {
    let capable = (user.uid == 0) == (user.capabilities == Capabilities::Usual);
    os::become_user(user.uid, user.gid, user.groups, capable);
    unsafe { libc::umask(umask) };
}

/// The time that everything in a tree has before a case.
const BEFORE: (i64, i64) = (1_000_000_000, 500_000_000);

/// Everything below `root` that a change can be seen in, one line each.
fn state(root: &Path) -> String {
    let mut lines = String::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(path) = pending.pop() {
        let m = path.symlink_metadata().unwrap();
        let mut more = String::new();
        if m.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            pending.sort();
        } else {
            write!(more, " links {} size {}", m.nlink(), m.size()).unwrap();
        }
        if m.is_file() {
            write!(more, " data {:x}", hash(&fs::read(&path).unwrap())).unwrap();
        }
        match (m.mtime(), m.mtime_nsec()) {
            BEFORE => more += " untouched",
            (sec, nsec) if sec < BEFORE.0 => write!(more, " mtime {sec}.{nsec}").unwrap(),
            _ => more += " changed",
        }
        for (name, value) in os::xattrs(&path) {
            write!(more, " {}={value:x?}", String::from_utf8_lossy(&name)).unwrap();
        }
        let name = path.strip_prefix(root).unwrap().display();
        writeln!(lines, "    /{name} {:o} {}:{}{more}", m.mode(), m.uid(), m.gid()).unwrap();
    }
    lines
}

fn settle_times(root: &Path) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            settle_times(&path);
        }
        os::set_times(&path, BEFORE, BEFORE).unwrap();
    }
}

/// The three copies of all trees, in the order in which they are compared.
struct Copies {
    bed: Bed,
    roots: [PathBuf; 3],
}

const COPIES: [&str; 3] = ["bare", "lower", "upper"];

impl Copies {
    fn new(options: &str, users: usize, cases: &[&Case]) -> Self {
        let fill = |root: &Path| {
            for (n, case) in cases.iter().enumerate() {
                for user in 0..users {
                    let tree = Tree(root.join(format!("{n}.{user}")));
                    fs::create_dir_all(&tree.0).unwrap();
                    tree.chmod("", 0o755);
                    (case.setup)(&tree);
                }
            }
            settle_times(root);
        };
        let setup = Setup { options: options.into(), ..Setup::default() };
        let mut bed = Bed::unmounted(setup, |l| fill(&l[0].join("lower")));
        fill(&bed.dir.join("bare"));
        fill(&bed.u("upper"));
        bed.mount();
        let roots = [bed.dir.join("bare"), bed.p("lower"), bed.p("upper")];
        Self { bed, roots }
    }

    fn states(&self, tree: &str) -> [String; 3] {
        [0, 1, 2].map(|n| state(&self.roots[n].join(tree)))
    }
}

/// Runs the table on a mount with default options; all must be as on the bare directory.
fn check(cases: &[Case]) {
    check_with("", &USERS, cases, str::to_owned);
}

/// Runs the table on a mount with these options; `becomes` says what is expected where a bare directory has a state.
fn check_with<'a>(
    options: &str,
    users: &[User],
    cases: impl IntoIterator<Item = &'a Case>,
    becomes: fn(&str) -> String,
) {
    let cases: Vec<&Case> = cases.into_iter().collect();
    let mut copies = Copies::new(options, users.len(), &cases);
    let mut report = Report::default();
    let mut expected = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        for (u, &user) in users.iter().enumerate() {
            let tree = format!("{n}.{u}");
            let said: [String; 3] = [0, 1, 2].map(|c| (case.run)(&Stage { root: copies.roots[c].join(&tree), user }));
            let states = copies.states(&tree);
            let (what, state) = (format!("{}, as {}", case.name, user.name), becomes(&states[0]));
            report.compare(&what, &said[0], [&said[1], &said[2]]);
            report.compare(&what, &state, [&states[1], &states[2]]);
            expected.push((tree, state, what));
        }
    }
    copies.bed.remount();
    for (tree, state, what) in &expected {
        let states = copies.states(tree);
        report.compare(&format!("{what}, after a remount"), state, [&states[1], &states[2]]);
    }
    assert!(report.0.is_empty(), "{} cases; these differ from a bare directory:\n{}", expected.len(), report.0);
    println!("{} cases, each on three trees", expected.len());
}

/// All that differs.
#[derive(Default)]
struct Report(String);

impl Report {
    /// Notes the lines of the two trees in the mount that are not as they should be.
    fn compare(&mut self, what: &str, want: &str, seen: [&str; 2]) {
        for (copy, seen) in COPIES[1..].iter().zip(seen).filter(|(_, seen)| *seen != want) {
            writeln!(self.0, "{what}, in {copy}:").unwrap();
            let (seen, want): (Vec<_>, Vec<_>) = (seen.lines().collect(), want.lines().collect());
            for line in want.iter().filter(|l| !seen.contains(l)) {
                writeln!(self.0, "    expected {}", line.trim()).unwrap();
            }
            for line in seen.iter().filter(|l| !want.contains(l)) {
                writeln!(self.0, "    seen     {}", line.trim()).unwrap();
            }
        }
    }
}

/// A file for writing that is there already.
pub fn open_write(path: &Path) -> io::Result<File> {
    File::options().write(true).open(path)
}

/// Opens for reading, for writing and for both.
pub fn three_ways(p: &Path) -> String {
    let open = |r, w| File::options().read(r).write(w).open(p).map(drop);
    codes([open(true, false), open(false, true), open(true, true)])
}
