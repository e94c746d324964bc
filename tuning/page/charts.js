// Canvas, sharp on any screen: sizes in CSS pixels, an axis with round steps, lines, bands, points.
function surface(canvas, height, least = 280) {
  const width = Math.max(canvas.parentElement.clientWidth, least);
  const scale = Math.min(devicePixelRatio || 1, 2);
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = '12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
  return { pen, width, height };
}

function ticks(low, high, count = 5) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(at);
  return found;
}

function limits(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (!(low <= high)) return [0, 1];
  const room = (high - low) * 0.04 || Math.abs(high) * 0.1 || 0.5;
  return [low - room, high + room];
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Number(value.toPrecision(3)));
}

// Axes around a plot; gives the maps from values to pixels.
function axes(area, [x0, x1], [y0, y1], xLabel, yLabel) {
  const { pen, width, height } = area;
  const box = { left: 52, right: width - 12, top: 24, bottom: height - 40 };
  const x = (value) => box.left + ((value - x0) / (x1 - x0)) * (box.right - box.left);
  const y = (value) => box.bottom - ((value - y0) / (y1 - y0)) * (box.bottom - box.top);
  pen.lineWidth = 1;
  pen.strokeStyle = ink("line");
  pen.fillStyle = ink("soft");
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const tick of ticks(y0, y1)) {
    pen.beginPath();
    pen.moveTo(box.left, y(tick));
    pen.lineTo(box.right, y(tick));
    pen.stroke();
    pen.fillText(short(tick), box.left - 6, y(tick));
  }
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const tick of ticks(x0, x1, Math.max(3, Math.floor(width / 130)))) pen.fillText(short(tick), x(tick), box.bottom + 6);
  pen.textAlign = "right";
  pen.fillText(xLabel, box.right, box.bottom + 22);
  pen.textAlign = "left";
  pen.textBaseline = "bottom";
  pen.fillText(yLabel, 4, box.top - 6);
  return { x, y, box };
}

// Lines with bands: series is [{x, mean, low, high, colour, dash}].
function lines(canvas, series, xLabel, yLabel) {
  const area = surface(canvas, 300);
  const xs = series.flatMap((one) => one.x);
  const ys = series.flatMap((one) => [...one.low, ...one.high]);
  const { x, y } = axes(area, limits(xs), limits(ys), xLabel, yLabel);
  for (const one of series) {
    const { pen } = area;
    pen.fillStyle = `${one.colour}26`;
    pen.beginPath();
    one.x.forEach((at, index) => pen.lineTo(x(at), y(one.high[index])));
    for (let index = one.x.length - 1; index >= 0; index--) pen.lineTo(x(one.x[index]), y(one.low[index]));
    pen.fill();
  }
  for (const one of series) {
    const { pen } = area;
    pen.strokeStyle = one.colour;
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.setLineDash(one.dash || []);
    pen.beginPath();
    one.x.forEach((at, index) => pen.lineTo(x(at), y(one.mean[index])));
    pen.stroke();
    pen.setLineDash([]);
    if (one.x.length === 1) {
      pen.fillStyle = one.colour;
      pen.fillRect(x(one.x[0]) - 3, y(one.mean[0]) - 3, 6, 6);
    }
  }
}

function key(panel, entries) {
  const list = $(".key", panel);
  list.replaceChildren();
  for (const [label, colour] of entries) {
    const entry = list.appendChild(element("span", label));
    entry.style.setProperty("--own", colour);
  }
}

function options(select, entries, value) {
  const signature = JSON.stringify(entries);
  if (select.dataset.signature === signature) return;
  const before = select.value;
  select.dataset.signature = signature;
  select.replaceChildren(...entries.map(([name, label]) => {
    const made = element("option", label);
    made.value = name;
    return made;
  }));
  const known = entries.map(([name]) => String(name));
  select.value = known.includes(before) ? before : known.includes(String(value)) ? value : known[0] ?? "";
}

// Points in two figures; the nearest answers the pointer and a click chooses it.
const scatter = { points: [] };
function frontier(rows, xFigure, yFigure) {
  const sign = (figure) => (figure.more ? 1 : -1);
  const sorted = [...rows].sort((a, b) => sign(xFigure) * (xFigure.of(b) - xFigure.of(a)) || sign(yFigure) * (yFigure.of(b) - yFigure.of(a)));
  const front = [];
  let best = -Infinity;
  for (const row of sorted) {
    const value = sign(yFigure) * yFigure.of(row);
    if (value > best) { front.push(row); best = value; }
  }
  return front;
}

function drawFront() {
  const panel = $("#front");
  const whole = inBlock().filter((row) => !row.ending);
  const usable = FIGURES.filter((figure) => whole.some((row) => Number.isFinite(figure.of(row))));
  const entries = usable.map((figure) => [figure.key, figure.label]);
  panel.hidden = usable.length < 2;
  if (panel.hidden) return;
  const [across, up] = [$(".x", panel), $(".y", panel)];
  const aims = objectives().filter((figure) => usable.includes(figure));
  const first = aims[0] ?? usable[0];
  const others = usable.filter((figure) => figure !== first);
  options(up, entries, first.key);
  options(across, entries, (aims[1] ?? others.find((figure) => figure.key === "images_per_second") ?? others[0]).key);
  const [xFigure, yFigure] = [across.value, up.value].map((name) => FIGURES.find((figure) => figure.key === name));
  const rows = state.visible.filter((row) => !row.ending && Number.isFinite(xFigure.of(row)) && Number.isFinite(yFigure.of(row)));
  const area = surface($("canvas", panel), 320);
  const { x, y } = axes(area, limits(rows.map(xFigure.of)), limits(rows.map(yFigure.of)), xFigure.label, yFigure.label);
  const { pen } = area;
  pen.globalAlpha = rows.length > 800 ? 0.35 : 0.7;
  pen.fillStyle = ink("accent");
  scatter.points = rows.map((row) => [x(xFigure.of(row)), y(yFigure.of(row)), row]);
  for (const [px, py] of scatter.points) pen.fillRect(px - 2.5, py - 2.5, 5, 5);
  pen.globalAlpha = 1;
  const front = xFigure === yFigure ? [] : frontier(rows, xFigure, yFigure);
  pen.strokeStyle = ink("bad");
  pen.lineWidth = 1.5;
  for (const row of front) {
    pen.beginPath();
    pen.arc(x(xFigure.of(row)), y(yFigure.of(row)), 6, 0, 7);
    pen.stroke();
  }
  for (const index of state.chosen) {
    const row = ROWS[index];
    if (!rows.includes(row)) continue;
    pen.fillStyle = colourOf(row, []);
    pen.beginPath();
    pen.arc(x(xFigure.of(row)), y(yFigure.of(row)), 5, 0, 7);
    pen.fill();
  }
}

function nearest(event) {
  const box = event.target.getBoundingClientRect();
  let [found, least] = [null, 200];
  for (const [px, py, row] of scatter.points) {
    const far = (px - event.clientX + box.left) ** 2 + (py - event.clientY + box.top) ** 2;
    if (far < least) [found, least] = [row, far];
  }
  return found;
}

$("#front canvas").onmousemove = (event) => {
  const row = nearest(event);
  tell(event, row ? `${row.name}\n${row.told.replaceAll("  ", "\n")}` : "");
};
$("#front canvas").onmouseleave = (event) => tell(event, "");
$("#front canvas").onclick = (event) => { const row = nearest(event); if (row) choose(row.index); };
for (const select of document.querySelectorAll("#front select")) select.onchange = changed;
listeners.push(drawFront);
