// Search, and what the layers have at a path.
const KINDS = { "-": "file", d: "directory", l: "symbolic link", c: "character device", b: "block device", p: "named pipe", s: "socket", w: "whiteout" };
const MAX_RESULTS = 60;

function rights(mode, kind) {
  const three = (bits, special, letter) => (bits & 4 ? "r" : "-") + (bits & 2 ? "w" : "-") +
    (special ? (bits & 1 ? letter : letter.toUpperCase()) : bits & 1 ? "x" : "-");
  return kind + three(mode >> 6, mode & 0o4000, "s") + three(mode >> 3, mode & 0o2000, "s") + three(mode, mode & 0o1000, "t");
}
const day = (seconds) => {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString().slice(0, 16).replace("T", " ");
};

// Who is to blame for what is not seen: the path itself or a directory above it.
const blamed = (node, one) => { let at = node; for (let up = one.blame; up > 0; up -= 1) at = nodes[at.parent]; return at; };

function fate(node, one) {
  if (one.end === 0) return one.kind === "w" ? "in force" : "visible";
  const by = layerName(one.by), where = one.blame > 0 ? ` of ${absolute(blamed(node, one))}` : "";
  if (one.end === GONE.merged) return `contents merged with ${by}`;
  if (one.kind === "w") return `superseded by ${by}`;
  if (one.end === GONE.deleted) return `deleted by ${by}`;
  if (one.end === GONE.parentDeleted) return `deleted by ${by} with ${absolute(blamed(node, one))}`;
  if (one.end === GONE.opaque) return `hidden by ${by}: opaque directory${where}`;
  if (one.end === GONE.parentReplaced) return `hidden by ${by}: replacement${where}`;
  return `hidden by ${by}`;
}

function verdict(node) {
  const one = shown(node);
  if (data.layers.length === 0) return "The image has no layers.";
  if (!one) {
    const last = node.found.filter((found) => found.kind !== "w").at(-1);
    return last ? `Not in the image: ${fate(node, last)}.` : "Not in the image: it is deleted, and no layer below has it.";
  }
  const others = node.found.filter((found) => found !== one && found.kind !== "w");
  if (one.kind === "d") {
    const makers = node.found.filter((found) => found.kind === "d" && (found.end === 0 || found.end === GONE.merged));
    return makers.length === 1 ? `The directory comes from ${layerName(one.layer)}.`
      : `L${layerNames(makers.map((found) => found.layer)).slice(1)} make up this directory; ${layerName(one.layer)} gives its attributes.`;
  }
  const hides = others.length > 0 ? `, and hides what ${layerNames(others.map((found) => found.layer))} ${others.length === 1 ? "has" : "have"}` : "";
  return `L${layerName(one.layer).slice(1)} gives this ${KINDS[one.kind]}${hides}.`;
}

function stratum(node, one) {
  const [mode, uid, gid] = one.attrs;
  const visible = one.end === 0 && one.kind !== "w";
  const facts = one.kind === "w" ? [] : [rights(mode, one.kind), `${uid}:${gid}`, one.kind === "-" ? bytes(one.size) : "", one.mtime === null ? "" : day(one.mtime)];
  const item = el("li", { class: isHidden(one) ? "out" : "" }, chip(one.layer),
    el("div", { class: "does" }, el("span", {}, one.action), el("span", { class: visible ? "fate shown" : "fate" }, fate(node, one))),
    el("div", { class: "facts" }, facts.filter(Boolean).join("  ")),
    one.target ? el("div", { class: "facts" }, `→ ${one.target}`) : "",
    el("div", { class: "made", title: brief(data.layers[one.layer].command) }, brief(data.layers[one.layer].command)));
  return coloured(item, one.layer);
}

// All that layers have at the path, the topmost first; a long list is cut until asked for.
function strata(node) {
  const all = node.found.slice().reverse(), few = all.length > 7 ? all.slice(0, 6) : all;
  const show = (some) => some.map((one) => stratum(node, one));
  const rows = el("ol", { class: "strata" }, show(few));
  if (few.length < all.length) {
    const more = el("button", { type: "button", class: "link", onclick: () => rows.replaceChildren(...show(all)) }, `${count(all.length - few.length)} layers more`);
    rows.append(el("li", { class: "all" }, more));
  }
  return rows;
}

function inside(node) {
  const items = parts(node, state.view).slice(0, 9);
  if (items.length === 0) return "";
  const largest = items[0].value;
  return el("div", { class: "inside" }, el("h3", {}, state.view === "hidden" ? "Hidden inside" : "Inside"), items.map((item) => {
    const strip = el("i", { class: "strip" });
    strip.style.width = `${100 * item.value / largest}%`;
    strip.style.background = fill(item.shares);
    const name = item.node ? item.node.name + (isDirectory(item.node) ? "/" : "") : `${plural(item.number, "smaller entry", "smaller entries")}, summed`;
    return el("button", { type: "button", onclick: () => reveal(item.node ?? node) }, el("span", {}, name), el("small", {}, bytes(item.value)), strip);
  }));
}

const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
// A name with escapes in it is not what one would type.
const asked = (path) => data.target === null || path.includes("\\") ? "" : el("div", { class: "ask" }, el("h3", {}, "The same in a terminal"),
  el("code", {}, `laminafs whence ${quoted(data.target)} ${quoted(path)}`));

function paintDetails() {
  const node = state.chosen ?? state.dir;
  byId("details").replaceChildren(
    el("h3", { class: "details-head" }, absolute(node)),
    el("p", { class: "verdict" }, verdict(node)),
    strata(node),
    inside(node), asked(absolute(node)));
}

// Shows a path in the panel and, if it has bytes, in the map.
function reveal(node) {
  const view = weight(node, state.view) === 0 && weight(node, "hidden") > 0 ? "hidden" : state.view;
  change({ chosen: node, dir: isDirectory(node) ? node : nodes[node.parent], view });
}

// Paths that hold all words, those first where the last part fits best.
let folded = null;
function search(text) {
  folded ??= nodes.map((node) => absolute(node).toLowerCase());
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [];
  const whole = words.length === 1 ? words[0].replace(/^\/|\/$/g, "") : null;
  const found = [];
  for (const node of nodes) {
    const path = folded[node.id];
    if (!words.every((word) => path.includes(word))) continue;
    const name = path.slice(path.lastIndexOf("/") + 1);
    const rank = whole !== null && path === "/" + whole ? 0 : name === whole ? 1 : whole !== null && path.startsWith("/" + whole) ? 2
      : name.startsWith(words.at(-1)) ? 3 : name.includes(words.at(-1)) ? 4 : 5;
    found.push([rank, path.length, node.id]);
  }
  found.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  return found.map(([, , id]) => nodes[id]);
}

// The directory into which a path was summed that is not here by itself.
function summedIn(text) {
  let at = root;
  for (const part of text.split("/").filter(Boolean)) {
    const next = at.children.find((child) => child.name === part);
    if (!next) break;
    at = next;
  }
  return at.rest.length > 0 ? at : null;
}

function marked(path, words) {
  const low = path.toLowerCase();
  const at = low.length === path.length ? low.lastIndexOf(words.at(-1)) : -1;
  if (at < 0) return [path];
  const end = at + words.at(-1).length;
  return [path.slice(0, at), el("mark", {}, path.slice(at, end)), path.slice(end)];
}

function listenSearch() {
  const input = byId("search"), results = byId("results");
  let options = [], at = -1;
  const select = (next) => {
    at = next;
    options.forEach((option, n) => option.setAttribute("aria-selected", String(n === at)));
    if (at >= 0) options[at].scrollIntoView({ block: "nearest" });
    if (at >= 0) input.setAttribute("aria-activedescendant", options[at].id); else input.removeAttribute("aria-activedescendant");
  };
  const close = () => { results.hidden = true; input.setAttribute("aria-expanded", "false"); select(-1); };
  const choose = (node) => { reveal(node); close(); };
  const update = () => {
    const text = input.value.trim(), found = search(text);
    const words = text.toLowerCase().split(/\s+/);
    options = found.slice(0, MAX_RESULTS).map((node, n) => {
      const one = shown(node) ?? node.found.at(-1);
      return el("li", { role: "option", id: `option-${n}`, "aria-selected": "false", onpointerdown: (e) => { e.preventDefault(); choose(node); } },
        chip(one.layer, !shown(node)), el("span", { class: shown(node) ? "path" : "path gone" }, marked(absolute(node), words)));
    });
    const more = found.length > MAX_RESULTS ? `${count(found.length - MAX_RESULTS)} more; type more of the path` : "";
    const summed = found.length === 0 && text !== "" ? summedIn(text) : null;
    const none = found.length > 0 ? "" : summed ? `Not embedded by itself: it would be one of the smaller entries of ${absolute(summed)}. laminafs whence tells about it.`
      : data.summed.paths > 0 ? "Not among the paths that are embedded." : "No layer has such a path.";
    results.replaceChildren(...options, ...[more || none].filter(Boolean).map((words) => el("li", { class: "more", role: "presentation" }, words)));
    results.hidden = text === "";
    input.setAttribute("aria-expanded", String(text !== ""));
    select(options.length > 0 ? 0 : -1);
  };
  input.addEventListener("input", update);
  input.addEventListener("focus", () => { if (input.value.trim()) update(); });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && options.length > 0) { event.preventDefault(); select((at + step + options.length) % options.length); }
    if (event.key === "Enter" && at >= 0) { const node = search(input.value.trim())[at]; choose(node); }
    if (event.key === "Escape" && !results.hidden) { event.preventDefault(); close(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && event.target !== input) { event.preventDefault(); input.focus(); input.select(); }
  });
  painters.push(paintDetails);
}

// What no one sees, by who is to blame.
function paintRanking() {
  const { hidden, deleted } = data.totals;
  byId("hidden-note").textContent = hidden + deleted === 0 ? "Every byte of every layer is visible."
    : `${bytes(hidden + deleted)} are in the layers and in nobody's view: ${bytes(hidden)} with something in their place, ${bytes(deleted)} deleted. Most of it:`;
  byId("ranking").hidden = losses.length === 0;
  byId("ranking").append(...losses.slice(0, 12).map((loss) => {
    const number = loss.files > 1 ? `, ${plural(loss.files, "file")}` : "";
    const show = () => { change({ view: "hidden" }); reveal(loss.node); byId("tree-title").scrollIntoView(); };
    return el("li", {}, el("button", { type: "button", onclick: show }, chip(loss.layer),
      el("span", { class: "path" }, absolute(loss.node)), el("span", { class: "bytes" }, bytes(loss.bytes)),
      el("span", { class: "why" }, loss.why + number)));
  }));
}
