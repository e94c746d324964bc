"""The comparison page in a real browser: opened, filtered, chosen from, on a screen and a phone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import made_up
import pytest

from tuning.page import page

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium (cluster/install_system_packages.sh)"
)
# Waits for no frame: on a busy machine the browser may give the page away before it draws one.
PROBE = """
<script>
addEventListener("error", (event) => { document.title = `error: ${event.message}`; });
addEventListener("load", () => setTimeout(() => {
  const found = {};
  const timed = (name, act) => {
    const began = performance.now();
    act();
    refresh();
    found[name] = performance.now() - began;
  };
  found.ready = Number(document.documentElement.dataset.ready);
  found.error = document.title.startsWith("error") ? document.title : "";
  found.first = document.querySelector(".window .name b").textContent;
  const sections = [...document.querySelectorAll("section")];
  found.sections = sections.filter((section) => !section.hidden).map((section) => section.id);
  found.overflow = document.documentElement.scrollWidth - innerWidth;
  const block = document.querySelector("#block");
  const last = block.options[block.options.length - 1];
  timed("enter", () => { block.value = last.value; block.onchange(); });
  found.axes = parallel.axes.length;
  const box = document.querySelector("#search");
  box.value = "channel";
  timed("search", () => box.oninput({ target: box }));
  found.searched = state.visible.length;
  found.allMatch = state.visible.every((row) => row.text.includes("channel"));
  timed("brush", () => brush(parallel.axes[0], [0.2, 0.5]));
  found.brushed = state.visible.length;
  timed("choose", () => { choose(state.visible[0].index); choose(state.visible[1].index); });
  found.chosen = state.chosen.length;
  timed("sort", () => { state.order = "cost"; state.down = true; });
  found.sorted = state.visible.every((row, at, all) => !at || all[at - 1].seconds >= row.seconds);
  found.lines = document.querySelectorAll(".window .line").length;
  timed("clear", () => document.querySelector("#clear").onclick());
  found.cleared = state.visible.length;
  found.groups = DATA.blocks.map((block, at) => {
    $("#block").value = DATA.blocks.length > 1 ? at : -1;
    $("#block").onchange();
    refresh();
    const cells = [...document.querySelector(".window .line").children];
    return { figure: main.figure.label, rank: cells[0].textContent, told: cells[3].textContent,
      last: state.visible[state.visible.length - 1].rank, front: $("#front .y").value };
  });
  const told = document.createElement("pre");
  told.id = "told";
  told.textContent = JSON.stringify(found);
  document.body.append(told);
}, 50));
</script>
"""


def probed(text: str, folder: Path, *, width: int = 1280) -> dict:
    """What the page says of itself after it was used."""
    file = folder / "page.html"
    file.write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    sizes = [f"--window-size={width},900", f"--user-data-dir={folder / 'profile'}"]
    patience = ["--virtual-time-budget=20000", file.as_uri()]
    done = subprocess.run(
        [*command, *sizes, *patience], capture_output=True, text=True, timeout=300, check=False
    )
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"the page did not run: {done.stdout[-300:]} {done.stderr[-500:]}"
    return json.loads(html.unescape(found[1]))


@cache
def large_page() -> str:
    comparison = made_up.comparison(5000)
    rows = comparison.blocks[0].rows + comparison.blocks[1].rows[:16]
    return page(comparison, made_up.details(rows))


@pytest.mark.parametrize("width", [1280, 500])
def test_5000_runs_open_and_filter_without_lag(tmp_path: Path, width: int) -> None:
    found = probed(large_page(), tmp_path, width=width)
    assert found["error"] == "" and found["overflow"] <= 0
    assert found["first"] == "fersnet.small" and found["lines"] < 40
    assert found["ready"] < 2000
    assert set(found["sections"]) >= {"leaderboard", "pairs", "front", "curves", "gates", "cost"}
    assert {"confusions", "edits"} <= set(found["sections"])
    assert found["axes"] == 10 and found["allMatch"] and found["sorted"]
    assert 0 < found["brushed"] < found["searched"] < 4992 == found["cleared"]
    assert found["chosen"] == 2
    slowest = max(found[name] for name in ("search", "brush", "choose", "sort", "clear"))
    assert slowest < 250, f"a filter took {slowest:.0f} ms"


def test_each_group_is_ranked_by_its_own_objective_or_not_at_all(tmp_path: Path) -> None:
    found = probed(page(made_up.synthesisers(60), {}), tmp_path, width=500)
    assert found["error"] == "" and found["overflow"] <= 0
    tested, unranked, trials = found["groups"]
    assert tested["figure"] == "synthesis/kernel distance"
    assert tested["front"] == "synthesis/kernel_distance"
    assert (tested["rank"], tested["told"]) == ("1", "0.020.01–0.032")
    assert (unranked["figure"], unranked["rank"], unranked["told"]) == ("", "–", "–")
    assert trials["figure"] == "validation edit accuracy"
    assert trials["front"] == "validation edit_accuracy"
    assert trials["rank"] == "1" and trials["last"] is None


def test_nothing_in_a_name_is_taken_for_markup(tmp_path: Path) -> None:
    comparison = made_up.comparison(60, tested=2)
    hostile = made_up.renamed(comparison, "</script><b id=bad>x</b>")
    found = probed(page(hostile, {}), tmp_path)
    assert found["error"] == "" and found["first"] == "</script><b id=bad>x</b>"
