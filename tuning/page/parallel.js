// Parallel coordinates: an axis per setting that differs and one for the figure that ranks, if any.
const AXIS_WIDTH = 128;
const MOST_AXES = 24;
const MOST_LETTERS = 17;
const parallel = { canvas: $("#parallel canvas"), axes: [], drag: null };

function axisOf(path) {
  const values = [];
  for (const row of inBlock()) if (path in row.settings) values.push(row.settings[path]);
  const different = [...new Set(values)];
  const numbers = different.map(Number);
  const label = SHORT.get(path);
  if (different.length > 2 && numbers.every(Number.isFinite) && !different.includes("")) {
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    const log = low > 0 && high / low >= 30;
    const map = (value) => (log ? Math.log(value) : value);
    const unit = (value) => (map(value) - map(low)) / (map(high) - map(low) || 1);
    return { path, label: log ? `${label} (log)` : label, ends: [low, high], steps: null,
      of: (row) => (path in row.settings ? unit(Number(row.settings[path])) : NaN) };
  }
  different.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const index = new Map(different.map((value, at) => [value, different.length > 1 ? at / (different.length - 1) : 0.5]));
  return { path, label, ends: null, steps: index, of: (row) => index.get(row.settings[path]) ?? NaN };
}

function figureAxis() {
  let [low, high] = [Infinity, -Infinity];
  for (const row of inBlock()) {
    const value = standing(row);
    if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  }
  return { path: "", label: main.figure.label, ends: [low, high], steps: null, of: (row) => (standing(row) - low) / (high - low || 1) };
}

function setUpAxes() {
  const counts = new Map();
  state.brushes.clear();
  for (const row of inBlock()) {
    for (const [path, value] of Object.entries(row.settings)) {
      if (!counts.has(path)) counts.set(path, new Set());
      counts.get(path).add(value);
    }
  }
  const paths = [...counts].filter(([, values]) => values.size > 1).map(([path]) => path);
  const rank = (path) => (path.includes(".weights.") ? 0 : path.includes(".gates.") ? 1 : 2);
  paths.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  parallel.axes = paths.slice(0, MOST_AXES).map(axisOf);
  if (inBlock().some((row) => Number.isFinite(standing(row)))) parallel.axes.push(figureAxis());
  parallel.axes.forEach((axis, at) => { axis.at = at; });
  // Heights are read thousands of times a frame: keep them in one table.
  for (const axis of parallel.axes) axis.heights = Float32Array.from(ROWS, (row) => axis.of(row));
  $("#parallel").hidden = parallel.axes.length < 2;
}

const TOP = 44;
const BOTTOM = 250;
function drawParallel() {
  if ($("#parallel").hidden) return;
  const area = surface(parallel.canvas, 280, parallel.axes.length * AXIS_WIDTH);
  const { pen, width } = area;
  const gap = (width - 120) / Math.max(parallel.axes.length - 1, 1);
  const x = (axis) => 60 + axis.at * gap;
  const y = (height) => BOTTOM - height * (BOTTOM - TOP);
  const last = parallel.axes[parallel.axes.length - 1];
  const trace = (row) => {
    let open = false;
    for (const axis of parallel.axes) {
      const height = axis.heights[row.index];
      if (Number.isNaN(height)) { open = false; continue; }
      if (open) pen.lineTo(x(axis), y(height));
      else pen.moveTo(x(axis), y(height));
      open = true;
    }
  };
  // Six layers in all: trials without an end, then rows by fifths of the figure, the best on top.
  const shades = [0.15, 0.3, 0.35, 0.4, 0.5, 0.95];
  const parts = shades.map(() => []);
  for (const row of state.visible) {
    const height = last.path ? NaN : last.heights[row.index];
    const share = main.figure.more ? height : 1 - height;
    const fifth = Number.isNaN(share) ? 0 : Math.min(4, Math.floor(share * 5));
    parts[row.ending ? 0 : 1 + fifth].push(row);
  }
  const raster = new Raster(area);
  parts.forEach((rows, part) => {
    for (const row of rows) {
      let before = null;
      for (const axis of parallel.axes) {
        const height = axis.heights[row.index];
        const here = Number.isNaN(height) ? null : [x(axis), y(height)];
        if (before && here) raster.line(...before, ...here);
        before = here;
      }
    }
    if (rows.length) raster.paint(ink(part === 5 ? "accent" : "soft"), shades[part], rows.length);
  });
  raster.show(pen);
  for (const index of state.chosen) {
    pen.strokeStyle = colourOf(ROWS[index], []);
    pen.lineWidth = 2.5;
    pen.beginPath();
    trace(ROWS[index]);
    pen.stroke();
  }
  for (const axis of parallel.axes) drawAxis(pen, axis, x(axis), y);
}

// A long label on two lines, parted where a word ends if one does.
function inTwo(label) {
  if (label.length <= MOST_LETTERS) return [label];
  const ends = [...label.slice(0, MOST_LETTERS).matchAll(/[ ._,]/g)].map((found) => found.index + 1);
  const at = ends.pop() ?? MOST_LETTERS;
  return [label.slice(0, at).trim(), label.slice(at, at + MOST_LETTERS + 3)];
}

function drawAxis(pen, axis, x, y) {
  pen.strokeStyle = ink("soft");
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x, TOP);
  pen.lineTo(x, BOTTOM);
  pen.stroke();
  const write = (text, height, baseline) => {
    pen.textAlign = "left";
    pen.textBaseline = baseline;
    pen.lineWidth = 3;
    pen.strokeStyle = ink("panel");
    pen.strokeText(text, x + 4, height);
    pen.fillText(text, x + 4, height);
  };
  pen.fillStyle = ink("soft");
  if (axis.ends) {
    write(short(axis.ends[1]), TOP, "top");
    write(short(axis.ends[0]), BOTTOM, "bottom");
  } else {
    for (const [value, height] of axis.steps.size <= 8 ? axis.steps : []) write(value || "–", y(height), "middle");
  }
  pen.fillStyle = ink("ink");
  pen.textAlign = "center";
  pen.textBaseline = "bottom";
  const words = inTwo(axis.label);
  words.forEach((text, at) => pen.fillText(text, x, TOP - 8 - 14 * (words.length - 1 - at)));
  const range = axis.range;
  if (!range) return;
  pen.fillStyle = ink("band");
  pen.strokeStyle = ink("accent");
  pen.fillRect(x - 9, y(range[1]), 18, y(range[0]) - y(range[1]));
  pen.strokeRect(x - 9, y(range[1]), 18, y(range[0]) - y(range[1]));
}

function pointed(event) {
  const box = parallel.canvas.getBoundingClientRect();
  const gap = (box.width - 120) / Math.max(parallel.axes.length - 1, 1);
  const at = Math.round((event.clientX - box.left - 60) / gap);
  const axis = parallel.axes[Math.min(Math.max(at, 0), parallel.axes.length - 1)];
  const height = (BOTTOM - (event.clientY - box.top)) / (BOTTOM - TOP);
  return { axis, height: Math.min(Math.max(height, 0), 1) };
}

function brush(axis, range) {
  axis.range = range;
  if (range) {
    const [low, high] = [range[0] - 0.004, range[1] + 0.004];
    state.brushes.set(axis.path, (row) => axis.heights[row.index] >= low && axis.heights[row.index] <= high);
  } else state.brushes.delete(axis.path);
  changed();
}

parallel.canvas.style.touchAction = "pan-x";
parallel.canvas.onpointerdown = (event) => {
  parallel.drag = { ...pointed(event), moved: false };
  parallel.canvas.setPointerCapture(event.pointerId);
};
parallel.canvas.onpointermove = (event) => {
  if (!parallel.drag) return;
  const { axis, height } = parallel.drag;
  const now = pointed(event).height;
  if (Math.abs(now - height) < 0.02 && !parallel.drag.moved) return;
  parallel.drag.moved = true;
  brush(axis, [Math.min(height, now), Math.max(height, now)]);
};
parallel.canvas.onpointerup = () => {
  if (parallel.drag && !parallel.drag.moved) brush(parallel.drag.axis, null);
  parallel.drag = null;
};
listeners.push(drawParallel);
