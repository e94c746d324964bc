// The controls, and the first picture.
$("#title").textContent = DATA.title;
$("#about").textContent = DATA.about;
$("#notes").replaceChildren(...DATA.notes.map((note) => element("li", note)));
options($("#block"), [[-1, `all ${DATA.blocks.length > 1 ? `${DATA.blocks.length} groups (not comparable)` : "rows"}`],
  ...DATA.blocks.map((block, at) => [at, block.name])], DATA.blocks.length > 1 ? 0 : -1);
function enterBlock() {
  enter(Number($("#block").value));
  setUpAxes();
  emptyBoard();
  // Another group has other objectives: its front is of these.
  for (const select of document.querySelectorAll("#front select")) { select.replaceChildren(); delete select.dataset.signature; }
  changed();
}
$("#search").oninput = (event) => { state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean); changed(); };
$("#block").onchange = enterBlock;
$("#only-chosen").onchange = (event) => { state.onlyChosen = event.target.checked; changed(); };
$("#clear").onclick = () => {
  Object.assign(state, { words: [], onlyChosen: false, chosen: [], order: "rank", down: false });
  state.brushes.clear();
  for (const axis of parallel.axes) axis.range = null;
  $("#search").value = "";
  $("#only-chosen").checked = false;
  changed();
};
addEventListener("resize", changed);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
enterBlock();
refresh();
document.documentElement.dataset.ready = performance.now().toFixed(0);
