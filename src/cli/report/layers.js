// The head, the layers and the history.
const sumOf = (layer) => layer.visible + layer.hidden + layer.deleted;

// A command in one line, without what a builder adds around it.
const brief = (command) => command.replace(/\s+/g, " ").replace(/ # buildkit$/, "")
  .replace(/^(RUN )?(\|\d+ )?\/bin\/sh -c #\(nop\) +/, "").replace(/^(RUN )?\/bin\/sh -c /, "RUN ").trim();

function paintHead() {
  const { totals, layers } = data;
  totals.all = totals.visible + totals.hidden + totals.deleted;
  byId("eyebrow").textContent = `${plural(layers.length, "layer")}, seen from the top`;
  byId("name").textContent = data.name;
  byId("identity").textContent = data.image ?? "";
  const composition = byId("composition");
  const part = (layer, n, kind) => {
    const span = coloured(el("span", { class: n / totals.all < 0.05 ? `${kind} thin` : kind, title: `${layerName(layer)}: ${bytes(n)} ${kind || "visible"}` }, String(layer + 1)), layer);
    span.style.flexGrow = n / totals.all * 1000;
    return span;
  };
  for (const [key, kind] of [["visible", ""], ["hidden", "replaced"], ["deleted", "deleted"]]) {
    const spans = layers.flatMap((layer, at) => layer[key] > 0 ? [part(at, layer[key], kind)] : []);
    if (composition.childElementCount > 0) spans[0]?.classList.add("next");
    composition.append(...spans);
  }
  composition.setAttribute("aria-label", `${bytes(totals.visible)} visible, ${bytes(totals.hidden)} hidden, ${bytes(totals.deleted)} deleted`);
  const figure = (name, value, note) => el("div", {}, el("dt", {}, name), el("dd", {}, value, el("small", {}, note)));
  byId("figures").append(
    figure("Visible", bytes(totals.visible), `in ${plural(totals.paths, "path")}`),
    figure("Hidden", bytes(totals.hidden), "replaced by layers above"),
    figure("Deleted", bytes(totals.deleted), "and carried all the same"),
    figure("Efficiency", percent(totals.visible, totals.all), "visible of all bytes"),
  );
  const sent = layers.reduce((sum, layer) => sum + (layer.compressed ?? 0), 0);
  if (sent > 0) byId("figures").append(figure("Transfer", bytes(sent), "the layers as they are sent"));
}

function layerRow(layer, at, largest) {
  const bar = el("span", { class: "bar", "aria-hidden": "true" });
  for (const [kind, n] of [["", layer.visible], ["replaced", layer.hidden], ["deleted", layer.deleted]]) {
    if (n === 0) continue;
    const part = el("i", { class: kind });
    part.style.width = `max(2px, ${100 * n / largest}%)`;
    bar.append(part);
  }
  const waste = layer.hidden + layer.deleted;
  const facts = [`${count(layer.added)} added`, layer.changed && `${count(layer.changed)} changed`,
    layer.taken_away && `${count(layer.taken_away)} deleted`, layer.compressed && `${bytes(layer.compressed)} sent`].filter(Boolean);
  const row = el("button", { type: "button", "aria-pressed": "false", title: "Show this layer alone in the map",
    onclick: () => change({ layer: state.layer === at ? null : at }) },
    chip(at), bar,
    el("span", { class: "size" }, bytes(sumOf(layer)), " ", el("small", {}, waste ? `${bytes(waste)} unseen` : "")),
    el("span", { class: "command" },
      el("span", {}, brief(layer.command)),
      el("small", {}, facts.join(" · "))));
  return coloured(el("li", {}, row), at);
}

function paintLayers() {
  const largest = Math.max(1, ...data.layers.map(sumOf));
  const rows = data.layers.map((layer, at) => layerRow(layer, at, largest));
  byId("layers").append(...rows.slice().reverse());
  byId("layers-note").textContent = "The topmost first. Choose one to see it alone in the map.";
  painters.push((next) => {
    if (!("layer" in next)) return;
    rows.forEach((row, at) => row.firstChild.setAttribute("aria-pressed", String(state.layer === at)));
  });
}

// The first word of a command in bold, a line for each part of a chain.
function command(text) {
  const lines = text.replace(/\s*\t+\s*/g, "\n    ").replace(/ +&& +/g, "\n && ").trim();
  const [, word, rest] = /^([A-Z]+\b)?([^]*)$/.exec(lines);
  return el("pre", {}, el("b", {}, word ?? ""), rest);
}

function paintHistory() {
  const steps = data.history;
  if (steps.length === 0) { byId("history-section").hidden = true; return; }
  for (const step of steps) {
    const has = step.layer !== null;
    const item = el("li", { class: has ? "" : "still" },
      has ? chip(step.layer) : el("span", { class: "chip off", title: "no layer" }, "–"),
      command(step.command || "(no command recorded)"),
      el("span", { class: "when" }, (step.created ?? "").slice(0, 10)));
    if ((step.command ?? "").length > 900) {
      item.classList.add("folded");
      item.append(el("button", { type: "button", class: "unfold link", onclick: (e) => { item.classList.remove("folded"); e.target.remove(); } }, "Show all"));
    }
    byId("history").append(item);
  }
  if (data.more_history) byId("history").prepend(el("li", { class: "still" }, el("span"), `${plural(data.more_history, "earlier step is", "earlier steps are")} not in this page`));
}
