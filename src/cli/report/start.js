// Everything once, then by changes. The directory and path chosen stand in the address, so that Back works.
paintHead();
paintLayers();
listenMap();
listenSearch();
paintRanking();
paintHistory();

const { paths, bytes: summedBytes } = data.summed;
byId("about").textContent = (paths > 0
  ? `To keep this page small, ${plural(paths, "smaller entry is", "smaller entries are")} not in it by name, only summed in their directories (${bytes(summedBytes)}); the search does not find them. ` : "") +
  `Sizes are those of files, unpacked, in units of 1000. Made by ${data.tool}.`;

function fromAddress() {
  let wanted = "";
  try { wanted = decodeURIComponent(location.hash.slice(1)); } catch { return root; }
  let at = root;
  for (const part of wanted.split("/").filter(Boolean)) {
    const next = at.children.find((child) => child.name === part);
    if (!next) break;
    at = next;
  }
  return at;
}
let moving = false;
painters.push((next) => {
  if (moving || !("dir" in next || "chosen" in next)) return;
  const address = "#" + encodeURIComponent(absolute(state.chosen ?? state.dir)).replaceAll("%2F", "/");
  if (address !== location.hash && !(address === "#/" && location.hash === "")) history.pushState(null, "", address);
});
window.addEventListener("popstate", () => { moving = true; go(); moving = false; });
function go() {
  const node = fromAddress();
  change({ dir: isDirectory(node) ? node : nodes[node.parent], chosen: node === root ? null : node, view: state.view, layer: state.layer });
}
moving = true;
go();
moving = false;
