// What is known of single rows: curves, gates, confusion matrices, edits, tests, and the cost.
function curveNames(isGate) {
  const names = new Set();
  for (const row of ROWS) for (const name of Object.keys(row.curves)) if (name.startsWith("gate/") === isGate) names.add(name);
  const first = (name) => (name.startsWith("validation/") ? 0 : name.startsWith("train/") ? 1 : 2);
  return [...names].sort((a, b) => first(a) - first(b) || a.localeCompare(b));
}
const CURVES = curveNames(false);
const GATES = curveNames(true);

function drawCurves() {
  const panel = $("#curves");
  panel.hidden = !CURVES.length;
  if (panel.hidden) return;
  const select = $("select", panel);
  options(select, CURVES.map((name) => [name, name]), CURVES.find((name) => name.includes("macro_recall")) ?? CURVES[0]);
  const rows = shown((row) => select.value in row.curves);
  lines($("canvas", panel), rows.map((row) => ({ ...row.curves[select.value], colour: colourOf(row, rows) })), "images", select.value);
  key(panel, rows.map((row) => [label(row), colourOf(row, rows)]));
  const have = ROWS.filter((row) => Object.keys(row.curves).length).length;
  $(".scope", panel).textContent = have < ROWS.length ? `Kept for the first ${have} rows.` : "";
}

function drawGates() {
  const panel = $("#gates");
  panel.hidden = !GATES.length;
  if (panel.hidden) return;
  const rows = shown((row) => GATES.some((name) => name in row.curves));
  const select = $("select", panel);
  options(select, rows.map((row) => [row.index, label(row)]), rows[0]?.index);
  const row = ROWS[Number(select.value)];
  if (!row) return;
  const names = GATES.filter((name) => name in row.curves);
  const colour = (at) => colours()[at % MOST_CHOSEN];
  lines($("canvas", panel), names.map((name, at) => ({ ...row.curves[name], colour: colour(at), dash: at < MOST_CHOSEN ? [] : [6, 4] })), "images", "opening");
  key(panel, names.map((name, at) => [name.slice(5), colour(at)]));
}

function label(row) {
  const told = row.told.length > 70 ? `${row.told.slice(0, 69)}…` : row.told;
  return told ? `${row.name}  ${told}` : row.name;
}

function tile(row, rows, about = "") {
  const made = element("figure");
  const caption = made.appendChild(element("figcaption", label(row) + about));
  caption.style.setProperty("--own", colourOf(row, rows));
  return made;
}

function shade(share) {
  return `color-mix(in srgb, var(--accent) ${Math.round(62 * share)}%, var(--panel))`;
}

function matrix(names, columns, cellOf) {
  const table = element("table", "", "matrix");
  const head = table.createTHead().insertRow();
  head.append(element("th"));
  for (const name of columns) head.append(element("th", name));
  const body = table.createTBody();
  names.forEach((name, at) => {
    const line = body.insertRow();
    line.append(element("th", name));
    columns.forEach((_, to) => line.append(cellOf(at, to)));
  });
  return table;
}

function confusionOf(row, rows) {
  const made = tile(row, rows);
  const { classes, counts } = row.confusion;
  const short = classes.map((name) => name.slice(0, 4));
  made.append(matrix(classes, short, (truth, said) => {
    const sum = counts[truth].reduce((a, b) => a + b, 0);
    const share = sum ? counts[truth][said] / sum : 0;
    const cell = element("td", sum && share >= 0.005 ? Math.round(100 * share) : "·");
    cell.style.background = shade(share);
    cell.title = `${classes[truth]} read as ${classes[said]}: ${counts[truth][said]} of ${sum}`;
    return cell;
  }));
  return made;
}

// Tiles are made anew only where another row is shown: pictures would flicker.
function fill(panel, has, make) {
  const rows = shown(has);
  panel.hidden = !rows.length;
  if (panel.hidden) return;
  const signature = `${rows.map((row) => row.index)} ${state.chosen} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
  if (panel.dataset.signature === signature) return;
  panel.dataset.signature = signature;
  $(".tiles", panel).replaceChildren(...rows.map((row) => make(row, rows)));
}

// Validation faces of one fold of one group are the same ones.
function haveSameFaces(rows) {
  return rows.every((row) => row.block === rows[0].block && row.pictured === rows[0].pictured);
}

function whose(row) {
  const { lake } = DATA.blocks[row.block];
  return `fold ${row.pictured || "unknown"}, lake ${lake || "unknown"}`;
}

function editsOf(row, rows) {
  const made = tile(row, rows, haveSameFaces(rows) ? "" : `: ${whose(row)}`);
  const picture = made.appendChild(element("img"));
  picture.src = row.picture;
  picture.alt = `edits by ${label(row)}`;
  return made;
}

function drawTiles() {
  fill($("#confusions"), (row) => Boolean(row.confusion), confusionOf);
  const panel = $("#edits");
  fill(panel, (row) => Boolean(row.picture), editsOf);
  if (panel.hidden) return;
  const rows = shown((row) => Boolean(row.picture));
  $(".hint", panel).textContent = haveSameFaces(rows)
    ? `The same faces, edited by each: ${whose(rows[0])}.`
    : "Faces of several folds or groups, not the same ones: of which stands above each picture.";
}

function drawPairs() {
  const panel = $("#pairs");
  const here = DATA.pairs.filter((pairs) => state.block < 0 || pairs.block === state.block);
  panel.hidden = !here.length;
  if (panel.hidden || panel.dataset.block === String(state.block)) return;
  panel.dataset.block = state.block;
  $(".wide", panel).replaceChildren(...here.map((pairs) => {
    const names = pairs.rows.map((index) => `${ROWS[index].rank}  ${ROWS[index].name}`);
    const short = pairs.rows.map((index) => ROWS[index].rank);
    const table = matrix(names, short, (left, right) => {
      const pair = pairs.cells[left][right];
      if (!pair) return element("td", "");
      const cell = element("td", `${pair.value > 0 ? "+" : ""}${percent(pair.value)}`, pair.apart ? "apart" : "tie");
      cell.title = `${names[left]} minus ${names[right]}: ${percent(pair.low)} to ${percent(pair.high)} points, p ${pair.p.toPrecision(2)}`;
      return cell;
    });
    if (here.length > 1) table.createCaption().textContent = DATA.blocks[pairs.block].name;
    return table;
  }));
}

// Time by row, longest first, and what it added up to.
function drawCost() {
  const panel = $("#cost");
  const rows = state.visible.filter((row) => row.seconds > 0);
  panel.hidden = !ROWS.some((row) => row.seconds > 0);
  if (panel.hidden) return;
  const total = rows.reduce((sum, row) => sum + row.seconds, 0);
  const saved = DATA.cost.saved ? ` ${DATA.cost.saved}` : "";
  $(".hint", panel).textContent = `${duration(total)} of training in the rows shown.${saved}`;
  const sorted = rows.map((row) => row.seconds).sort((a, b) => b - a);
  $("canvas", panel).hidden = sorted.length < 2;
  if (sorted.length < 2) return;
  const area = surface($("canvas", panel), 220);
  const { x, y, box } = axes(area, [0, sorted.length || 1], [0, (sorted[0] || 1) * 1.05], "rows, the longest first", "seconds");
  area.pen.fillStyle = ink("accent");
  const wide = Math.max((box.right - box.left) / (sorted.length || 1), 1);
  sorted.forEach((seconds, at) => area.pen.fillRect(x(at), y(seconds), wide > 4 ? wide - 2 : wide, box.bottom - y(seconds)));
}

listeners.push(drawPairs, drawCurves, drawGates, drawTiles, drawCost);
$("#curves select").onchange = drawCurves;
$("#gates select").onchange = drawGates;
