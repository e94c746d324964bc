"use strict";
// What is shown: the rows that pass every filter, in order, and those that the reader chose.
const DATA = JSON.parse(document.getElementById("data").textContent);
const ROWS = DATA.rows;
const MOST_CHOSEN = 8;
const $ = (selector, within = document) => within.querySelector(selector);

const state = {
  words: [], block: -1, onlyChosen: false, brushes: new Map(), chosen: [],
  order: "rank", down: false, visible: [],
};
const listeners = [];

function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (name) made.className = name;
  return made;
}

function colours() {
  return getComputedStyle(document.documentElement).getPropertyValue("--colours").trim().split(/\s+/);
}

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// What any row can be drawn by: a name, readers of its value and of its interval where it has one,
// and whether more is better.
const FIGURES = [
  { key: "macro_recall", label: "macro recall (test)", of: (row) => row.macro_recall?.[0],
    bounds: (row) => row.macro_recall?.slice(1), more: true },
  { key: "accuracy", label: "accuracy (test)", of: (row) => row.accuracy?.[0],
    bounds: (row) => row.accuracy?.slice(1), more: true },
  { key: "validation_macro_recall", label: "macro recall (validation, seen)", of: (row) => row.validation,
    bounds: (row) => row.bounds.validation_macro_recall, more: true },
  { key: "images_per_second", label: "images/s", of: (row) => row.speed, more: true },
  { key: "seconds", label: "seconds", of: (row) => row.seconds, more: false },
  ...DATA.figures.map((figure) => ({
    key: figure.name, label: figure.name.replaceAll("_", " "), of: (row) => row.figures[figure.name],
    bounds: (row) => row.bounds[figure.name], more: figure.more,
  })),
].filter((figure) => ROWS.some((row) => Number.isFinite(figure.of(row))));
const NO_FIGURE = { key: "", label: "", of: () => NaN, more: true };
// The figure that ranks the group in view, the span of its intervals, for all bars alike, and
// whether any row has a verdict.
const main = { figure: NO_FIGURE, span: [0, 1], judged: false };

function inBlock() {
  return state.block < 0 ? ROWS : ROWS.filter((row) => row.block === state.block);
}

// What the group in view (the first one where all are) is ranked by, then what else its studies
// searched for.
function objectives() {
  const names = DATA.blocks[Math.max(state.block, 0)]?.objectives ?? [];
  return names.map((name) => FIGURES.find((figure) => figure.key === name)).filter(Boolean);
}

function enter(block) {
  state.block = block;
  const rows = inBlock();
  main.figure = objectives()[0] ?? NO_FIGURE;
  main.judged = rows.some((row) => row.verdict);
  let [low, high] = [Infinity, -Infinity];
  for (const row of rows) {
    if (row.ending) continue;
    const bounds = reach(row) ?? [main.figure.of(row), main.figure.of(row)];
    if (!Number.isFinite(bounds[0])) continue;
    low = Math.min(low, bounds[0]);
    high = Math.max(high, bounds[1]);
  }
  main.span = low < high ? [low, high] : [low - 0.5, low + 0.5];
}

// What a row stands at in what ranks the group: nowhere, if it is a trial that did not come to its end.
function standing(row) {
  return row.ending ? NaN : main.figure.of(row);
}

function reach(row) {
  return main.figure.bounds?.(row) ?? null;
}

const READERS = {
  rank: (row) => row.index, name: (row) => row.name,
  figure: (row) => main.figure.of(row) ?? (main.figure.more ? -Infinity : Infinity),
  accuracy: (row) => row.accuracy?.[0] ?? -Infinity, behind: (row) => row.behind?.[0] ?? -Infinity,
  verdict: (row) => row.verdict, speed: (row) => row.speed ?? -Infinity, cost: (row) => row.seconds ?? -1,
};

function runs(row) {
  return row.runs === 1 ? "1 run" : `${row.runs} runs`;
}

// A number's first four digits; any other text as it is.
function digits(text) {
  const isLong = /^-?\d+\.\d+(e-?\d+)?$/.test(text);
  return isLong ? String(Number(Number(text).toPrecision(4))) : text;
}

// The end of each setting's path that no other setting has; a ramp's point keeps what it is a point of.
const SHORT = new Map();
{
  const paths = [...new Set(ROWS.flatMap((row) => Object.keys(row.settings)))];
  const end = (path, count) => path.split(".").slice(-count).join(".");
  for (const path of paths) {
    let count = /\.(start|end|begin|finish|shape)$/.test(path) ? 2 : 1;
    while (paths.some((other) => other !== path && end(other, count) === end(path, count))) count++;
    SHORT.set(path, end(path, count));
  }
}

for (const row of ROWS) {
  const settings = Object.entries(row.settings).map(([path, value]) => [path, digits(value)]);
  row.told = settings.map(([path, value]) => `${SHORT.get(path)}=${value}`).join("  ");
  const whole = settings.map(([path, value]) => `${path}=${value}`).join(" ");
  row.text = `${row.name} ${row.system} ${whole} ${row.verdict}`.toLowerCase();
}

function passes(row) {
  if (state.block >= 0 && row.block !== state.block) return false;
  if (state.onlyChosen && !state.chosen.includes(row.index)) return false;
  for (const word of state.words) if (!row.text.includes(word)) return false;
  for (const brush of state.brushes.values()) if (!brush(row)) return false;
  return true;
}

function refresh() {
  state.visible = ROWS.filter(passes);
  const read = READERS[state.order];
  const sign = state.down ? -1 : 1;
  const isBelow = (row) => state.order === "figure" && Boolean(row.ending);
  state.visible.sort((a, b) => {
    const [left, right] = [read(a), read(b)];
    return isBelow(a) - isBelow(b) || (left < right ? -sign : left > right ? sign : 0) || a.index - b.index;
  });
  $("#count").textContent = `${state.visible.length.toLocaleString("en")} of ${ROWS.length.toLocaleString("en")}`;
  for (const listener of listeners) listener();
}

// Many changes within a frame are one redraw.
let waiting = false;
function changed() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; refresh(); });
}

function shown(has = () => true) {
  const chosen = state.chosen.map((index) => ROWS[index]).filter(has);
  return chosen.length ? chosen : state.visible.filter(has).slice(0, 4);
}

function colourOf(row, list) {
  const at = state.chosen.length ? state.chosen.indexOf(row.index) : list.indexOf(row);
  return colours()[Math.max(at, 0) % MOST_CHOSEN];
}

function choose(index) {
  const at = state.chosen.indexOf(index);
  if (at >= 0) state.chosen.splice(at, 1);
  else if (state.chosen.length < MOST_CHOSEN) state.chosen.push(index);
  changed();
}

function percent(value, digits = 1) {
  return Number.isFinite(value) ? (100 * value).toFixed(digits) : "–";
}

function brief(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

const tip = $("#tip");
function tell(event, text) {
  tip.classList.toggle("on", Boolean(text));
  if (!text) return;
  tip.textContent = text;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
}
