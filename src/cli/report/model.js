// What is embedded, and questions to it. A node is a path: its parent, its name, and what each layer has there, the lowest
// layer first. Texts come from the image: they are set as text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const PALETTE = 36;
const GONE = { superseded: 1, merged: 2, deleted: 3, opaque: 4, parentDeleted: 5, parentReplaced: 6 };
const occurrence = ([layer, kind, action, end, state, by, blame, bytes, size, attrs, mtime, target]) =>
  ({ layer, kind, action, end, state, by, blame, bytes, size, attrs: data.attrs[attrs], mtime, target });
const nodes = data.nodes.map(([parent, name, ...found], id) =>
  ({ id, parent, name, found: found.map(occurrence), children: [], rest: [] }));
for (const node of nodes.slice(1)) nodes[node.parent].children.push(node);
// What is not embedded by itself, summed where it is: layer, state (0 visible, 1 hidden, 2 deleted), how many, bytes.
for (const [id, layer, state, count, bytes] of data.rest) nodes[id].rest.push({ layer, state, count, bytes });
for (const node of nodes) node.path = node.id === 0 ? "" : (node.parent ? nodes[node.parent].path + "/" : "") + node.name;
const root = nodes[0];
const losses = data.losses.map((loss) => ({ ...loss, node: nodes[loss.node] }));

const shown = (node) => node.found.find((one) => one.end === 0 && one.kind !== "w");
const isDeleted = (one) => one.end === GONE.deleted || one.end === GONE.parentDeleted;
const isHidden = (one) => one.end !== 0 && one.end !== GONE.merged && one.kind !== "w";
const isDirectory = (node) => node.children.length > 0 || node.rest.length > 0 || node.found.some((one) => one.kind === "d");
const ancestors = (node) => node.id === 0 ? [root] : [...ancestors(nodes[node.parent]), node];

// The bytes at and below a node by layer, in one of the two ways to look: visible bytes, or hidden ones.
const shareCache = { visible: [], hidden: [] };
function shares(node, view) {
  const cache = shareCache[view];
  if (cache[node.id]) return cache[node.id];
  const sum = new Map();
  const add = (layer, bytes) => { if (bytes > 0) sum.set(layer, (sum.get(layer) ?? 0) + bytes); };
  for (const one of node.found) if ((view === "hidden") === one.state > 0) add(one.layer, one.bytes);
  for (const one of node.rest) if ((view === "hidden") === one.state > 0) add(one.layer, one.bytes);
  for (const child of node.children) for (const [layer, bytes] of shares(child, view)) add(layer, bytes);
  return (cache[node.id] = sum);
}
const total = (sum) => [...sum.values()].reduce((a, b) => a + b, 0);
const weight = (node, view) => total(shares(node, view));

// Numbers as the commands print them: base 1000, three digits.
function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) { n /= 1000; unit += 1; }
  return `${unit === 0 ? n : Number(n.toPrecision(3))}\u00a0${units[unit]}`;
}
const count = (n) => n.toLocaleString("en-US");
const plural = (n, one, many = one + "s") => `${count(n)}\u00a0${n === 1 ? one : many}`;
const percent = (part, whole) => whole > 0 ? `${Number((100 * part / whole).toPrecision(3))}\u00a0%` : "–";
const list = (words) => words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
// Layers as ranges: `layers 1–3 and 7`.
function layerNames(layers) {
  const numbers = [...new Set(layers)].sort((a, b) => a - b), runs = [];
  for (const n of numbers) if (runs.at(-1)?.[1] === n - 1) runs.at(-1)[1] = n; else runs.push([n, n]);
  const words = runs.flatMap(([a, b]) => a === b ? [`${a + 1}`] : b === a + 1 ? [`${a + 1}`, `${b + 1}`] : [`${a + 1}–${b + 1}`]);
  return `${numbers.length === 1 ? "layer" : "layers"}\u00a0${list(words)}`;
}
const layerName = (layer) => `layer\u00a0${layer + 1}`;
const absolute = (node) => "/" + node.path;

// Elements: attributes, listeners (`onclick`), then children, which are elements or text.
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== ""));
  return element;
}
const byId = (id) => document.getElementById(id);
const colour = (layer) => `var(--c${layer % PALETTE})`;
function coloured(element, layer) {
  element.style.setProperty("--layer", colour(layer));
  return element;
}
const chip = (layer, off) => coloured(el("span", { class: off ? "chip off" : "chip", title: layerName(layer) }, String(layer + 1)), layer);

// What is chosen; every change repaints what depends on it.
const state = { dir: root, view: "visible", layer: null, chosen: null };
const painters = [];
function change(next) {
  Object.assign(state, next);
  for (const paint of painters) paint(next);
}
