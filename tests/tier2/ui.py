#!/usr/bin/env python3
"""The terminal browser in a terminal.

  ui.py --laminafs PROGRAM [--scratch DIR]

In tmux, on a socket of its own, a shell starts `laminafs ui` on an image that was loaded and on the archive it came in.
Keys are sent and the screen is read: walking, the filter, sorting, the layer that gives a file, the waste view, a window
of 20 by 5 and back. After q, Ctrl-C, every signal that ends or stops a program, and Ctrl-Z the terminal has to be as it was
before: its settings, its cursor and the text on it; also while an archive is still being read, which says so on the screen. Names that would steer the terminal are shown, not sent; with NO_COLOR there are no colours; without a
terminal there is an error. Needs tmux and bash. Exits 1 on the first difference.
"""

import argparse
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

sys.dont_write_bytecode = True

import images

# Signals that end a program, and the exit code that a shell makes of them.
ENDS = ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGQUIT, 131))
# The prompt says how the last command ended.
PROMPT = r"\d+ ready>"
COLOUR = "\x1b\\[[0-9;]*[34]8;5;[0-9]+"
LAYERS = (
    {"etc/hosts": 100, "etc/passwd": 10, "usr/bin/tool": 123_000, "usr/share/big": 5_000_000,
     "odd/\x1b]0;stolen\x07name": 1, "odd/日本語": 2, "odd/e\u0301": 3},
    {"etc/passwd": 20, "etc/.wh.hosts": 0, "usr/.wh.share": 0, "usr/lib/libz.so": 77_000},
    {"app/run": 50},
)


def layer(files):
    """A layer tar with zeros in these files, and the directories they are in."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for directory in sorted({os.path.dirname(name) for name in files}):
            for depth in range(1, directory.count("/") + 2):
                info = tarfile.TarInfo("/".join(directory.split("/")[:depth]))
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
        for name, size in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = size, 1_700_000_000
            tar.addfile(info, io.BytesIO(bytes(size)))
    return out.getvalue()


class Terminal:
    """A window of tmux with a shell in it."""

    def __init__(self, base):
        self.socket = os.path.join(base, "tmux")
        environment = {"PATH": os.environ["PATH"], "HOME": base, "LANG": "C.UTF-8", "HISTFILE": "", "PS1": "$? ready> "}
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "bash", "--norc", "--noprofile", "-i",
                  env=environment)
        self.pid = int(self.ask("#{pane_pid}"))

    def tmux(self, *words, **more):
        """Runs a command of tmux."""
        command = ["tmux", "-u", "-S", self.socket, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30, **more).stdout

    def ask(self, format_):
        """What tmux knows of the window."""
        return self.tmux("display-message", "-p", format_).strip()

    def screen(self, *options):
        """The text on it."""
        return self.tmux("capture-pane", "-p", *options)

    def keys(self, *keys):
        """Presses keys, by the names that tmux has for them."""
        self.tmux("send-keys", *keys)

    def type(self, text, *keys):
        """Types a text, then keys."""
        self.tmux("send-keys", "-l", text)
        if keys:
            self.keys(*keys)

    def wait(self, *wanted, without=()):
        """Waits for texts to be on the screen, and others not to be; returns the screen."""
        end = time.monotonic() + 15
        while True:
            screen = self.screen()
            if all(re.search(text, screen) for text in wanted) and not any(text in screen for text in without):
                return screen
            if time.monotonic() > end:
                sys.exit(f"ui: {wanted} without {without} is not on the screen:\n{screen}")
            time.sleep(0.03)

    def child(self):
        """The process that the shell waits for."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as children:
            return int(children.read().split()[-1])

    def settings(self):
        """How the terminal is set, and what tmux says of it, from the shell."""
        self.keys("clear", "Enter")
        self.wait(rf"\A{PROMPT}\n")
        self.type("stty -g", "Enter")
        stty = re.search(r"^[0-9a-f:]{30,}$", self.wait(r"\n[0-9a-f:]+"), re.M)
        return stty and stty.group(0), self.ask("#{alternate_on} #{cursor_flag} #{mouse_any_flag}")

    def close(self):
        """Ends it."""
        server = self.ask("#{pid}")
        self.tmux("kill-server")
        while os.path.exists(f"/proc/{server}") or os.path.exists(f"/proc/{self.pid}"):
            time.sleep(0.03)


def expect(what, found, wanted):
    """Ends the program when they differ."""
    if found != wanted:
        sys.exit(f"ui: {what}: {found!r} instead of {wanted!r}")


def browse(terminal):
    """Walks, filters, sorts, goes from layer to layer, and looks at the waste."""
    terminal.wait("Layers 1 to 3 merged", r"A .* 3 ▸ app/", r"2 ▸ etc/")
    # Down to usr, by size: it is the largest.
    terminal.keys("G", "s", "g", "l")
    screen = terminal.wait("SIZE↓", r"200kB .*▾ usr/", r"77kB .* lib/")
    expect("the order by size", re.findall(r"▸ (bin|lib)/", screen), ["bin", "lib"])
    terminal.keys("s")
    terminal.type("/pass")
    terminal.wait(r"/pass +1 match", r"20B .* passwd", r"content changed|replaces|superseded by layer 2", without=("libz",))
    terminal.keys("Enter", "p")
    terminal.wait(r"layer 2 gives /etc/passwd", "Layers 1 to 2 merged", r"C +20B +2 +passwd")
    terminal.keys("Escape")
    terminal.wait(r"D +100B +1 +hosts", r"C +20B +2 +passwd")
    terminal.keys("v")
    terminal.wait("Changes of layer 2", r"A +77kB", without=("odd/",))
    terminal.keys("v", "w")
    terminal.wait("5MB that nobody can see", "comparing|efficiency 0.0", r"5MB +1 +2 parent deleted|5MB +1 +2 .* /usr/share/big")
    terminal.keys("Enter")
    terminal.wait("Layer 1: 5.12MB", r"A +5MB +1 +big")


def names(terminal):
    """Names that would steer a terminal, and wide ones."""
    title = terminal.ask("#{pane_title}")
    terminal.keys("c")
    terminal.type("/odd")
    terminal.keys("Enter", "l")
    screen = terminal.wait(r"\\u\{1b\}\]0;stolen\\u\{7\}name", "日本語", "e\u0301")
    for line in screen.splitlines():
        if "日本語" in line:
            expect("the frame behind wide characters", line.endswith("│"), True)
    expect("the title of the terminal", terminal.ask("#{pane_title}"), title)
    terminal.keys("Escape")


def resize(terminal):
    """A tiny window, in which every view is looked at, and a large one."""
    terminal.tmux("resize-window", "-x", "20", "-y", "5")
    terminal.wait(r"\A[^\n]*layers?\n", without=("Details",))
    for keys in ("Tab", "Tab", "Tab", "?", "Escape", "w", "Escape", "/", "Escape", "G", "g"):
        terminal.keys(keys)
    terminal.wait(r"(?s)odd/|app/|etc/")
    terminal.tmux("resize-window", "-x", "120", "-y", "40")
    terminal.wait("Layers|Layer 1", "Details", "q quit")
    terminal.tmux("resize-window", "-x", "100", "-y", "30")
    terminal.wait("Details", "q quit")


def restored(terminal, command, before):
    """Every way to end: the terminal is as it was, and the shell is told how it ended."""
    def start():
        terminal.keys("clear", "Enter")
        terminal.wait(rf"\A{PROMPT}\n")
        terminal.type("echo text before; " + command, "Enter")
        terminal.wait("Layers 1 to 3 merged")

    def ended(how, code):
        terminal.wait("text before", rf"\n{code} ready>", without=("merged",))
        expect(f"the terminal after {how}", terminal.settings(), before)

    for how, code in ENDS:
        start()
        os.kill(terminal.child(), how)
        ended(how.name, code)
    start()
    terminal.keys("C-c")
    ended("Ctrl-C", 0)
    # Without a list of commands, which bash would go on with.
    terminal.type(command, "Enter")
    terminal.wait("Layers 1 to 3 merged")
    stopped(terminal, before, "Layers 1 to 3 merged")
    terminal.keys("j", "q")
    terminal.wait(PROMPT, without=("merged",))
    expect("the terminal after fg and q", terminal.settings(), before)


def stopped(terminal, before, shown):
    """Ctrl-Z, and the signal from elsewhere, then fg; what is shown is a text on the screen of the browser."""
    for how in ("Ctrl-Z", "SIGTSTP"):
        if how == "Ctrl-Z":
            terminal.keys("C-z")
        else:
            os.kill(terminal.child(), signal.SIGTSTP)
        terminal.wait("Stopped", without=(shown,))
        expect(f"the terminal after {how}", terminal.settings(), before)
        terminal.type("fg", "Enter")
        terminal.wait(shown, without=("Stopped",))


def reading(terminal, program, base, before):
    """While a target is being read: from a pipe, into which nobody writes."""
    pipe = os.path.join(base, "pipe")
    os.mkfifo(pipe)
    shown = "reading docker-archive:"

    def start():
        terminal.keys("clear", "Enter")
        terminal.wait(rf"\A{PROMPT}\n")
        terminal.type(f"{program} ui docker-archive:{pipe}", "Enter")
        terminal.wait(shown + r".*/pipe \.\.\.", "q quit")

    for how, code in (*ENDS, ("q", 0), ("C-c", 0)):
        start()
        if code == 0:
            terminal.keys(how)
        else:
            os.kill(terminal.child(), how)
        terminal.wait(rf"\n{code} ready>", without=(shown,))
        expect(f"the terminal after {how} while reading", terminal.settings(), before)
    start()
    terminal.tmux("resize-window", "-x", "30", "-y", "5")
    terminal.wait(r"reading docker-archive:.*…\n", "q quit")
    terminal.tmux("resize-window", "-x", "100", "-y", "30")
    terminal.keys("x", "j", "/", "C-l")
    stopped(terminal, before, shown)
    with open(pipe, "wb") as end:
        end.write(b"no archive")
    terminal.wait(r"laminafs: .*pipe(?s:.*)\n1 ready>", without=(shown,))
    expect("the terminal after what is no archive", terminal.settings(), before)


def without_terminal(store, image):
    """Pipes, and terminals that can do nothing."""
    done = store.run("ui", image, stdin=subprocess.DEVNULL)
    expect("without a terminal", (done.returncode, done.stdout, len(done.stderr.splitlines())), (1, "", 1))
    for word in ("terminal", "laminafs layers", "whence", "waste"):
        expect(f"{word} in {done.stderr}", word in done.stderr, True)


def try_all(program, base):
    """Everything."""
    archive = os.path.join(base, "web.tar")
    images.archive(archive, "web:1", [layer(files) for files in LAYERS])
    store = images.Store(program, os.path.join(base, "store"))
    store.must("load", "-q", "-i", archive)
    without_terminal(store, "web:1")
    terminal = Terminal(base)
    try:
        terminal.wait(PROMPT)
        before = terminal.settings()
        command = " ".join(store.command("ui", "web:1"))
        terminal.type(command, "Enter")
        browse(terminal)
        names(terminal)
        resize(terminal)
        colours = terminal.screen("-e")
        expect("colours", bool(re.search(COLOUR, colours)), True)
        terminal.keys("q")
        terminal.wait(PROMPT, without=("Details",))
        expect("the terminal after q", terminal.settings(), before)
        restored(terminal, command, before)
        reading(terminal, program, base, before)
        terminal.type(f"NO_COLOR=1 {program} ui oci-archive:{archive}", "Enter")
        terminal.wait("Layers 1 to 3 merged", r"A .* 3 ▸ app/")
        colours = terminal.screen("-e")
        expect("colours with NO_COLOR", re.findall(COLOUR, colours), [])
        terminal.keys("q")
        terminal.wait(PROMPT, without=("Details",))
    finally:
        terminal.close()


def main():
    """Runs it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--laminafs", required=True)
    options.add_argument("--scratch")
    args = options.parse_args()
    begun = time.monotonic()
    base = tempfile.mkdtemp(prefix="laminafs-ui-", dir=args.scratch)
    try:
        try_all(os.path.abspath(args.laminafs), base)
    finally:
        shutil.rmtree(base)
    print(f"ui: the terminal was used and given back ({time.monotonic() - begun:.0f} s)")


if __name__ == "__main__":
    main()
