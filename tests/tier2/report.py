#!/usr/bin/env python3
"""The page of `laminafs report` in a real browser.

  report.py --laminafs PROGRAM [--browser chromium] [--screenshots DIR]

Makes a small stack with hostile names, its page and its picture, and opens them in a headless chromium that it talks to
through a pipe (DevTools protocol). Nothing may be loaded but the files, and nothing be complained of; the search must find a
path and show its layers; clicks and keys must go into directories and out; dark mode must differ; a phone must not have to
scroll sideways; the policy of the page must hold. Needs chromium, no network, no root; ten seconds. Exits 1 on the first
difference. --screenshots keeps pictures of what was seen.
"""

import argparse
import base64
import fcntl
import json
import os
import select
import subprocess
import sys
import tempfile
import time

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-extensions --remote-debugging-pipe about:blank""".split()


class Browser:
    """A chromium with one page."""

    def __init__(self, program, profile):
        (self.read_end, browser_out), (browser_in, self.write_end) = os.pipe(), os.pipe()
        # The browser wants 3 and 4; nothing that is copied there may stand there already.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (browser_in, browser_out)]
        ends = lambda: (os.dup2(high[0], 3), os.dup2(high[1], 4))
        self.process = subprocess.Popen([program, f"--user-data-dir={profile}", *FLAGS], pass_fds=(3, 4), preexec_fn=ends,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for fd in (browser_in, browser_out, *high):
            os.close(fd)
        self.buffer, self.last, self.session, self.events = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        """Ends it, and what it started."""
        self.session = None
        try:
            self.call("Browser.close")
            self.process.wait(20)
        except (SystemExit, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()

    def message(self, end):
        """The next message of the browser."""
        while b"\0" not in self.buffer:
            if not select.select([self.read_end], [], [], max(0, end - time.monotonic()))[0]:
                sys.exit("report: the browser does not answer")
            piece = os.read(self.read_end, 1 << 20)
            if not piece:
                sys.exit("report: the browser has ended")
            self.buffer += piece
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def call(self, method, **params):
        """Calls a method of the protocol; events that come meanwhile are kept."""
        self.last += 1
        request = {"id": self.last, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.write_end, json.dumps(request).encode() + b"\0")
        end = time.monotonic() + 60
        while True:
            message = self.message(end)
            if message.get("id") == self.last:
                if "error" in message:
                    sys.exit(f"report: {method}: {message['error']}")
                return message["result"]
            if "method" in message:
                self.events.append(message)

    def js(self, expression):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            sys.exit(f"report: {expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, expression, what):
        """Waits until it is true."""
        end = time.monotonic() + 20
        while not self.js(expression):
            if time.monotonic() > end:
                sys.exit(f"report: {what}: never")
            time.sleep(0.05)

    def open(self, path, width=1280, height=900, dark=False):
        """Opens a file in a window of that size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=f"file://{path}")
        self.wait(f"location.pathname === {json.dumps(path)} && document.readyState === 'complete'", path)

    def key(self, key, text=None):
        """Presses a key."""
        codes = {"Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowDown": 40, "ArrowUp": 38}
        params = {"key": key, "windowsVirtualKeyCode": codes.get(key, 0)}
        text = "\r" if key == "Enter" else text
        self.call("Input.dispatchKeyEvent", type="keyDown", **params, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **params)

    def click(self, expression):
        """Clicks in the upper left corner of an element, which the expression finds."""
        self.js(f"({expression}).scrollIntoView({{block: 'center'}})")
        x, y = self.js(f"(() => {{ const r = ({expression}).getBoundingClientRect(); return [r.x + 9, r.y + 9]; }})()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path):
        """Keeps what is seen."""
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


def expect(what, found, wanted):
    """Ends the program when they differ."""
    if found != wanted:
        sys.exit(f"report: {what}: {found!r} instead of {wanted!r}")


def complaints(browser):
    """Errors, and whatever was asked of a network or of other files, since the last call."""
    found = []
    for event in browser.events:
        method, params = event["method"], event["params"]
        if method == "Runtime.exceptionThrown" or method == "Log.entryAdded":
            found.append(params)
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            found.append(params["args"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file://", "data:", "about:")) or "/page." not in url and url.startswith("file"):
                found.append(url)
    browser.events.clear()
    return found


def stack(base):
    """Two layers, with names that would do something if a page let them."""
    files = {
        "1": {b"usr/bin/tool": 300_000, b"usr/lib/deep/only/large": 2_000_000, b"usr/lib/other": 400_000, b"etc/conf": 900,
              b"var/cache/old": 700_000, b"srv/<img src=x onerror=document.title='hit'>": 250_000, b"srv/\xff\xe2\x80\xae": 9},
        "2": {b"etc/conf": 1200, b"opt/app/run": 900_000, b"var/cache/.wh.old": 0},
    }
    for layer, entries in files.items():
        for path, size in entries.items():
            place = os.path.join(os.fsencode(f"{base}/{layer}"), path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                file.write(b"x" * size)
    return f"{base}/2:{base}/1"


CELL = "[...document.querySelectorAll('.cell')].find((cell) => cell.getAttribute('aria-label').startsWith({}))"
CRUMBS = "[...document.querySelectorAll('#crumbs button')].map((crumb) => crumb.textContent).join(' ')"
HEAD = "document.querySelector('.details-head').textContent"


def check_search(browser):
    """A path is found by typing, and its layers are shown."""
    browser.key("/")
    expect("the key / goes to the search", browser.js("document.activeElement.id"), "search")
    browser.call("Input.insertText", text="tc/con")
    browser.wait("document.querySelectorAll('#results [role=option]').length === 1", "a result of the search")
    expect("the result", browser.js("document.querySelector('#results .path').textContent"), "/etc/conf")
    browser.key("Enter")
    expect("what is shown", browser.js(HEAD), "/etc/conf")
    layers = "[...document.querySelectorAll('.strata .chip')].map((chip) => chip.textContent).join()"
    expect("its layers, the topmost first", browser.js(layers), "2,1")
    verdict = browser.js("document.querySelector('.verdict').textContent").replace("\u00a0", " ")
    expect("the verdict", verdict, "Layer 2 gives this file, and hides what layer 1 has.")
    browser.js("const s = document.querySelector('#search'); s.value = 'ol'; s.dispatchEvent(new Event('input')); 0")
    expect("what is deleted is struck through", browser.js("document.querySelector('#results .gone').textContent"), "/var/cache/old")
    browser.js("s.value = 'xff'; s.dispatchEvent(new Event('input')); 0")
    expect("bytes that are no text", browser.js("document.querySelector('#results .path').textContent"), "/srv/\\xff\\u{202e}")
    browser.js("s.value = ''; s.dispatchEvent(new Event('input')); 0")


def check_zoom(browser):
    """By click and by key into directories and out."""
    browser.js("document.querySelector('#crumbs button').click()")
    expect("the way at first", browser.js(CRUMBS), "/")
    browser.click(CELL.format("'/usr —'"))
    expect("the way after a click", browser.js(CRUMBS), "/ usr")
    expect("the panel follows", browser.js(HEAD), "/usr")
    browser.key("Escape")
    expect("the way after Escape", browser.js(CRUMBS), "/")
    browser.js(CELL.format("'/usr —'") + ".focus()")
    browser.key("Enter")
    expect("the way after Enter", browser.js(CRUMBS), "/ usr")
    expect("a cell has the focus", browser.js("document.activeElement.classList.contains('cell')"), True)
    before = browser.js("document.activeElement.getAttribute('aria-label')")
    browser.key("ArrowRight")
    expect("an arrow moves", browser.js("document.activeElement.getAttribute('aria-label')") == before, False)
    browser.key("Escape")
    browser.js(CELL.format("'/usr —'") + ".focus()")
    label = "document.activeElement.getAttribute('aria-label').split(' —')[0]"
    browser.key("ArrowDown")
    expect("down goes inside", browser.js(label).startswith("/usr/"), True)
    browser.key("ArrowUp")
    expect("up goes to the frame around", browser.js(label), "/usr")
    browser.key("Enter")
    expect("the way after Enter, again", browser.js(CRUMBS), "/ usr")
    browser.js("history.back()")
    browser.wait(f"{CRUMBS} === '/'", "going back in the browser")
    browser.click("document.querySelector('#show-hidden')")
    expect("what is hidden is in the map", browser.js("Boolean(" + CELL.format("'/var/cache'") + ")"), True)
    browser.click("document.querySelector('#show-visible')")
    grey = "[...document.querySelectorAll('.cell:not(.frame)')].filter((cell) => cell.style.background.includes('dim')).length"
    expect("no cell is grey", browser.js(grey), 0)
    browser.click("document.querySelector('#layers button')")
    expect("cells of other layers are grey", browser.js(grey) > 2, True)


def check_policy(browser):
    """Nothing of the names was run, and nothing could be."""
    expect("the title", browser.js("document.title").startswith("Layers of "), True)
    browser.js("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'})); 0")
    expect("a script that is added is not run", browser.js("typeof window.ran"), "undefined")
    browser.js("document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:9/x'})); 0")
    time.sleep(0.2)
    sent = [event for event in browser.events if event["method"] == "Network.responseReceived" and "127.0.0.1" in str(event)]
    expect("nothing is loaded", sent, [])
    browser.events.clear()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", required=True)
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--screenshots")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="laminafs-report-", ignore_cleanup_errors=True) as base:
        lower, page, picture = stack(base), f"{base}/page.html", f"{base}/page.svg"
        subprocess.run([args.laminafs, "report", "--lower", lower, "-o", page], check=True)
        subprocess.run([args.laminafs, "report", "--lower", lower, "--svg", "-o", picture], check=True)
        browser = Browser(args.browser, f"{base}/profile")
        keep = lambda name: args.screenshots and browser.screenshot(f"{args.screenshots}/{name}.png")
        try:
            browser.open(page)
            ground = browser.js("getComputedStyle(document.body).backgroundColor")
            layer = browser.js("getComputedStyle(document.querySelector('.chip')).backgroundColor")
            keep("light")
            check_search(browser)
            check_zoom(browser)
            keep("one-layer")
            expect("complaints", complaints(browser), [])
            check_policy(browser)
            browser.open(page, dark=True)
            expect("dark has the same ground", browser.js("getComputedStyle(document.body).backgroundColor") == ground, False)
            expect("dark has the same colours", browser.js("getComputedStyle(document.querySelector('.chip')).backgroundColor") == layer, False)
            keep("dark")
            browser.open(page, width=390, height=844)
            expect("a phone scrolls sideways", browser.js("document.documentElement.scrollWidth > innerWidth"), False)
            wide = "[...document.querySelectorAll('.panel, .layers, .history')].some((e) => e.scrollWidth > e.clientWidth)"
            expect("something is cut off on a phone", browser.js(wide), False)
            keep("narrow")
            browser.open(picture, width=940, height=300)
            expect("bars", browser.js("document.querySelectorAll('.number').length"), 2)
            keep("bars")
            expect("complaints", complaints(browser), [])
        finally:
            browser.close()
    print("report: the page and the picture are as they should be")


if __name__ == "__main__":
    main()
