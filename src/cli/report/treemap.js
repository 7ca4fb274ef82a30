// The map: a squarified treemap (Bruls, Huizing, van Wijk 2000), directories within directories as far as there is room.
const HEADER = 20, GAP = 2, MAX_CELLS = 1600;

// Places items (value > 0, largest first) into a rectangle, each near a square.
function squarify(items, x, y, w, h) {
  const placed = [];
  let left = items.reduce((sum, item) => sum + item.value, 0);
  const worst = (sum, first, last, side, scale) => {
    const s = sum * scale, a = side * side;
    return Math.max(a * first * scale / (s * s), s * s / (a * last * scale));
  };
  for (let at = 0; at < items.length;) {
    const side = Math.min(w, h), scale = w * h / left;
    if (!(side > 0)) break;
    let end = at + 1, sum = items[at].value;
    while (end < items.length) {
      const next = sum + items[end].value;
      if (worst(next, items[at].value, items[end].value, side, scale) > worst(sum, items[at].value, items[end - 1].value, side, scale)) break;
      sum = next;
      end += 1;
    }
    const thick = sum * scale / side;
    let along = 0;
    for (; at < end; at += 1) {
      const long = items[at].value / sum * side;
      placed.push(w < h ? { item: items[at], x: x + along, y, w: long, h: thick } : { item: items[at], x, y: y + along, w: thick, h: long });
      along += long;
    }
    if (w < h) { y += thick; h -= thick; } else { x += thick; w -= thick; }
    left -= sum;
  }
  return placed;
}

// What a directory consists of, largest first: its children, and what is summed in it.
function parts(dir, view) {
  const items = dir.children.map((node) => ({ node, shares: shares(node, view) }));
  const own = new Map(), hidden = view === "hidden";
  let number = 0;
  for (const one of dir.rest.filter((one) => (one.state > 0) === hidden)) {
    own.set(one.layer, (own.get(one.layer) ?? 0) + one.bytes);
    number += one.count;
  }
  items.push({ number, shares: own });
  for (const item of items) item.value = total(item.shares);
  return items.filter((item) => item.value > 0).sort((a, b) => b.value - a.value);
}

// Children too small to be drawn become one item.
function gathered(items, area) {
  const all = items.reduce((sum, item) => sum + item.value, 0);
  const large = items.filter((item) => item.value / all * area >= 26);
  const small = items.slice(large.length);
  if (small.length < 2) return items;
  const own = new Map();
  for (const item of small) for (const [layer, n] of item.shares) own.set(layer, (own.get(layer) ?? 0) + n);
  const item = { number: small.reduce((sum, one) => sum + (one.number ?? 1), 0), shares: own, value: total(own) };
  return [...large, item].sort((a, b) => b.value - a.value);
}

// One colour a layer, in stripes as wide as its part of the bytes; with a layer chosen, its part alone.
function fill(sum) {
  const all = total(sum);
  const parts = [...sum].sort((a, b) => b[1] - a[1]);
  const paint = (layer) => state.layer === null || state.layer === layer ? colour(layer) : "var(--dim)";
  if (parts.length === 1) return paint(parts[0][0]);
  let from = 0;
  const stops = parts.slice(0, 12).map(([layer, n], at) => {
    const to = at === Math.min(parts.length, 12) - 1 ? 100 : from + 100 * n / all;
    const stop = `${paint(layer)} ${from.toFixed(2)}% ${to.toFixed(2)}%`;
    from = to;
    return stop;
  });
  return `linear-gradient(90deg, ${stops.join(", ")})`;
}

const origin = (sum) => [...sum].sort((a, b) => b[1] - a[1]).slice(0, 4)
  .map(([layer, n], _, all) => sum.size === 1 ? layerName(layer) : `${layerName(layer)}: ${bytes(n)}`).join(", ") + (sum.size > 4 ? " …" : "");

const map = byId("map");
let cells = [];

function describe(item, dir) {
  const what = item.node ? absolute(item.node) : `${plural(item.number, "smaller entry", "smaller entries")} in ${absolute(dir)}`;
  return `${what} — ${bytes(item.value)}, ${origin(item.shares)}`;
}

function addCell(place, dir, kind) {
  const { item, x, y, w, h } = place;
  const label = describe(item, dir);
  const cell = el("button", { type: "button", class: `cell ${kind}`, tabindex: "-1", "aria-label": label });
  Object.assign(cell.style, { left: `${x}px`, top: `${y}px`, width: `${Math.max(1, w - GAP)}px`, height: `${Math.max(1, h - GAP)}px` });
  if (kind !== "frame") cell.style.background = fill(item.shares);
  const name = item.label ?? (item.node ? item.node.name : `${count(item.number)} more`);
  if (kind === "frame") cell.append(el("span", {}, name + "/"), w > 130 ? el("small", {}, bytes(item.value)) : "");
  else if (w > 42 && h > 20) cell.append(el("span", {}, item.node && isDirectory(item.node) ? name + "/" : name), h > 38 && w > 62 ? el("small", {}, bytes(item.value)) : "");
  else cell.classList.add("tiny");
  Object.assign(cell, { item, within: dir, said: label });
  cells.push(cell);
  map.append(cell);
}

// Directories that hold nothing but one directory are shown as one.
function joined(item) {
  if (!item.node || !isDirectory(item.node)) return item;
  const below = parts(item.node, state.view);
  if (below.length !== 1 || !below[0].node || !isDirectory(below[0].node)) return item;
  const inner = joined(below[0]);
  return { ...inner, label: `${item.node.name}/${inner.label ?? inner.node.name}` };
}

function draw(dir, x, y, w, h, depth) {
  for (const place of squarify(gathered(parts(dir, state.view), w * h), x, y, w, h)) {
    place.item = joined(place.item);
    const { node } = place.item;
    const open = node && isDirectory(node) && parts(node, state.view).length > 0;
    if (open && depth < 8 && place.w > 76 && place.h > 58 && cells.length < MAX_CELLS) {
      addCell(place, dir, "frame");
      draw(node, place.x + 3, place.y + HEADER, place.w - GAP - 6, place.h - HEADER - GAP - 3, depth + 1);
    } else {
      addCell(place, dir, node ? "file" : "file sum");
    }
  }
}

function paintMap() {
  map.replaceChildren();
  cells = [];
  const { width, height } = map.getBoundingClientRect();
  draw(state.dir, 0, 0, width + GAP, height + GAP, 0);
  if (cells.length === 0) {
    map.append(el("p", { class: "empty" }, state.view === "hidden" ? "Nothing is hidden or deleted here." : "No bytes are visible here."));
  }
  markCell();
}

function markCell() {
  for (const cell of cells) cell.classList.toggle("chosen", state.chosen !== null && cell.item.node === state.chosen);
  const stop = cells.find((cell) => cell.classList.contains("chosen")) ?? cells[0];
  for (const cell of cells) cell.tabIndex = cell === stop ? 0 : -1;
}

function paintCrumbs() {
  const way = ancestors(state.dir);
  const crumbs = way.flatMap((node, at) => {
    const here = node === state.dir;
    const name = at === 0 ? "/" : node.name;
    return [at > 1 ? el("span", { "aria-hidden": "true" }, "/") : "",
      el("button", { type: "button", "aria-current": here ? "location" : undefined, onclick: () => enter(node) }, name)];
  });
  const all = weight(state.dir, state.view);
  byId("crumbs").replaceChildren(...crumbs.filter(Boolean), el("span", { class: "weight" }, `${bytes(all)} ${state.view}`));
}

function tell(cell) {
  byId("status").textContent = cell ? cell.said : "";
  byId("status").hidden = !cell;
  byId("map-keys").hidden = Boolean(cell);
}

// Goes into a directory, and shows it in the panel.
function enter(dir) {
  change({ dir, chosen: dir === root ? null : dir });
}

function leave() {
  if (state.dir === root) return;
  const from = state.dir;
  change({ dir: nodes[from.parent], chosen: from });
  focusChosen();
}

function focusChosen() {
  (cells.find((cell) => cell.tabIndex === 0) ?? byId("crumbs").lastChild).focus();
}

function openCell(cell) {
  const { node } = cell.item;
  if (node && !isDirectory(node)) { change({ chosen: node }); return; }
  const target = node ?? cell.within;
  if (target === state.dir) { change({ chosen: target }); return; }
  enter(target);
  map.classList.add("turned");
  if (cells.length > 0) { cells[0].tabIndex = 0; cells[0].focus(); }
}

// Left and right go through the cells in their order, up to the frame around, down to the first inside.
function move(cell, key) {
  const at = cells.indexOf(cell);
  const inside = (one, frame) => one !== frame && frame.item.node === one.within;
  if (key === "ArrowRight") return cells[at + 1];
  if (key === "ArrowLeft") return cells[at - 1];
  if (key === "ArrowUp") return cells.find((one) => inside(cell, one) && one.classList.contains("frame"));
  if (key === "ArrowDown") return cells[at + 1] && inside(cells[at + 1], cell) ? cells[at + 1] : cells.slice(at + 1).find((one) => one.within === cell.within);
  if (key === "Home") return cells[0];
  if (key === "End") return cells.at(-1);
  return undefined;
}

function listenMap() {
  const cellOf = (event) => event.target.closest(".cell");
  map.addEventListener("click", (event) => { const cell = cellOf(event); if (cell) openCell(cell); });
  map.addEventListener("pointerover", (event) => tell(cellOf(event)));
  map.addEventListener("pointerleave", () => tell(null));
  map.addEventListener("focusin", (event) => tell(cellOf(event)));
  map.addEventListener("keydown", (event) => {
    if (event.key === "Escape" || event.key === "Backspace") { event.preventDefault(); leave(); return; }
    const next = cellOf(event) && move(cellOf(event), event.key);
    if (!event.key.startsWith("Arrow") && !next) return;
    event.preventDefault();
    if (!next) return;
    for (const cell of cells) cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  byId("crumbs").addEventListener("keydown", (event) => { if (event.key === "Escape") leave(); });
  for (const view of ["visible", "hidden"]) byId(`show-${view}`).addEventListener("click", () => change({ view }));
  painters.push((next) => {
    if ("view" in next) for (const view of ["visible", "hidden"]) byId(`show-${view}`).setAttribute("aria-pressed", String(view === state.view));
    if ("dir" in next || "view" in next) paintCrumbs();
    if ("dir" in next || "view" in next || "layer" in next) paintMap(); else markCell();
  });
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (entry.contentRect.width !== width) { width = entry.contentRect.width; paintMap(); }
  }).observe(map);
}
