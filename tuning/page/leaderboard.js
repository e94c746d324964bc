// The leaderboard: only the lines in view exist, so that thousands of rows scroll as few do.
const board = { head: $("#leaderboard .head"), window: $("#leaderboard .window"),
  space: $("#leaderboard .space"), lines: new Map(), entry: -1 };
const COLUMNS = [
  ["rank", "#"], ["name", "row"], [null, ""], ["figure", ""], ["behind", "behind best"],
  ["verdict", "verdict"], ["speed", "images/s"], ["cost", "time"],
];

for (const [order, label] of COLUMNS) {
  const cell = element(order ? "button" : "span", label, order === "figure" ? "shown" : "");
  if (order) {
    cell.type = "button";
    cell.onclick = () => {
      const rises = ["rank", "name", "verdict", "cost"].includes(order) || (order === "figure" && !main.figure.more);
      state.down = state.order === order ? !state.down : !rises;
      state.order = order;
      changed();
    };
    cell.dataset.order = order;
  }
  board.head.append(cell);
}

function place(value) {
  return `${(96 * (value - main.span[0])) / (main.span[1] - main.span[0]) + 2}%`;
}

function bar(row) {
  const made = element("div", "", "bar");
  const value = standing(row);
  if (!Number.isFinite(value)) return made;
  const bounds = reach(row);
  if (bounds) {
    const whisker = made.appendChild(element("i"));
    whisker.style.left = place(bounds[0]);
    whisker.style.right = `calc(100% - ${place(bounds[1])})`;
  }
  made.appendChild(element("b")).style.left = place(value);
  return made;
}

const SEEN = /\bvalidation\b/;

function isShare() {
  return ["macro_recall", "accuracy", "validation_macro_recall"].includes(main.figure.key);
}

function figureCell(row) {
  const cell = element("div", "", "num shown");
  const value = main.figure.of(row);
  const told = isShare() ? percent : brief;
  cell.append(told(value));
  if (Number.isFinite(value) && SEEN.test(main.figure.label)) cell.append(element("span", "seen", "seen"));
  const bounds = reach(row);
  if (row.reached) cell.append(element("small", row.reached));
  else if (bounds) cell.append(element("small", bounds.map((end) => told(end)).join("–")));
  return cell;
}

function lineOf(row) {
  const line = element("div", "", `line${row.ending ? " early" : ""}`);
  line.setAttribute("role", "button");
  const name = element("div", "", "name");
  name.append(element("b", row.name), element("small", row.told || runs(row)));
  const behind = element("div", row.behind ? percent(row.behind[0]) : "–", `num gap${row.behind ? "" : " none"}`);
  if (row.behind) behind.append(element("small", `${percent(row.behind[1])} to ${percent(row.behind[2])}`));
  const verdict = element("div", row.verdict || "–", `num verdict ${row.verdict || "none"}`);
  if (Number.isFinite(row.p)) verdict.append(element("small", row.p < 0.001 ? "p <0.001" : `p ${row.p.toFixed(3)}`));
  line.append(element("div", row.rank ?? "–", "num"), name, bar(row), figureCell(row), behind, verdict,
    element("div", Number.isFinite(row.speed) ? row.speed.toFixed(0) : "–", "num"),
    element("div", duration(row.seconds), "num"));
  line.onclick = () => choose(row.index);
  line.onfocus = () => { board.entry = row.index; drawBoard(); };
  line.onkeydown = (event) => pressed(event, row);
  line.onmousemove = (event) => tell(event, `${row.name}\n${row.told.replaceAll("  ", "\n")}\n${runs(row)}, folds ${row.folds || "–"}, seeds ${row.seeds || "–"}`);
  line.onmouseleave = (event) => tell(event, "");
  return line;
}

// Tab comes to one line; arrows go on from there, Enter and Space choose.
function pressed(event, row) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (by) {
    const next = state.visible[state.visible.indexOf(row) + by];
    if (next) board.lines.get(next.index)?.focus();
  } else if (event.key === "Enter" || event.key === " ") choose(row.index);
  else return;
  event.preventDefault();
}

// Lines are made anew where another group has another figure and another span.
function emptyBoard() {
  for (const line of board.lines.values()) line.remove();
  board.lines.clear();
  board.window.scrollTop = 0;
}

function lineHeight() {
  if (!matchMedia("(max-width: 760px)").matches) return 48;
  return main.judged ? 98 : 76;
}

function drawBoard() {
  const height = lineHeight();
  board.window.style.setProperty("--height", `${height}px`);
  board.space.style.height = `${state.visible.length * height}px`;
  board.window.style.height = `${Math.min(state.visible.length * height + 1, 520)}px`;
  const first = Math.max(Math.floor(board.window.scrollTop / height) - 4, 0);
  const last = Math.min(first + Math.ceil(board.window.clientHeight / height) + 9, state.visible.length);
  const wanted = new Map();
  for (let at = first; at < last; at++) wanted.set(state.visible[at].index, at);
  for (const [index, line] of board.lines) {
    if (!wanted.has(index)) { line.remove(); board.lines.delete(index); }
  }
  const top = Math.min(Math.ceil(board.window.scrollTop / height), last - 1);
  const entry = wanted.has(board.entry) ? board.entry : state.visible[top]?.index;
  let above = board.space;
  for (const [index, at] of wanted) {
    let line = board.lines.get(index);
    if (!line) {
      line = lineOf(ROWS[index]);
      board.lines.set(index, line);
    }
    // Kept in the order of the eye; one that stands right is not moved, as it would lose the focus.
    if (above.nextElementSibling !== line) above.after(line);
    above = line;
    line.tabIndex = index === entry ? 0 : -1;
    line.style.top = `${at * height}px`;
    const mark = state.chosen.indexOf(index);
    line.classList.toggle("chosen", mark >= 0);
    line.setAttribute("aria-pressed", String(mark >= 0));
    if (mark >= 0) line.style.setProperty("--own", colours()[mark]);
  }
  $(".shown", board.head).textContent = main.figure.label.replace(", seen", "") + (isShare() ? " %" : "");
  for (const cell of board.head.children) cell.classList.toggle("by", cell.dataset.order === state.order);
}

board.window.addEventListener("scroll", drawBoard, { passive: true });
listeners.push(drawBoard);
