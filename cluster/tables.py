"""The results of commands as tables, from the same plain values that `--json` prints."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cluster.launcher import HostState
from cluster.terminal import table

EXAMPLES = 10
FIGURES = ("accuracy", "macro_recall", "macro_f1", "calibration_error")
SPEED = "images_per_second"


def interval(value: Mapping[str, float] | None) -> str:
    """`0.843 [0.801, 0.880]`: the value with its 95 % interval."""
    if value is None:
        return ""
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def result(values: Mapping[str, Any]) -> list[Any]:
    """What came of a run: figures with their intervals, and the confusion matrix."""
    rows = [[name.replace("_", " "), interval(values[name])] for name in FIGURES if name in values]
    for name in ("status", "images_per_second", "first_step_seconds", "num_faces", "num_subjects"):
        if values.get(name) is not None:
            rows.append([name.replace("_", " "), _figure(values[name])])
    made: list[Any] = [table(("run", values["run_id"]), rows)]
    for name, card in values.get("measures", {}).items():
        made.append(table((name, ""), list(_card("", card))))
    made += list(values.get("pictures", ()))
    if values.get("unchecked"):
        made.append(f"whom these learnt from cannot be looked into: {values['unchecked']}")
    if values.get("not_in_mlflow"):
        made.append(f"not recorded in MLflow: {values['not_in_mlflow']}")
    if "confusion" in values:
        made.append(confusion(values["classes"], values["confusion"], values["per_class"]))
    return made


def _card(path: str, card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rows of a card: figures with intervals, whatever their depth, then what is told of it."""
    for name, value in card.items():
        here = f"{path} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping) and "low" in value:
            p = f"  p = {value['p']:.3f}" if "p" in value else ""
            yield here, f"{interval(value)}{p}"
        elif isinstance(value, Mapping):
            yield from _card(here, value)
        elif value is not None:
            yield here, _figure(value)


def _figure(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def confusion(
    classes: Sequence[str], counts: Sequence[Sequence[int]], recalls: Mapping[str, float | None]
) -> Table:
    """Faces by true class (row) and predicted class (column), with the recall of each class."""
    rows = []
    for name, line in zip(classes, counts, strict=True):
        recall = recalls[name]
        rows.append([name, *line, "" if recall is None else f"{recall:.3f}"])
    return table(("truth \\ predicted", *classes, "recall"), rows)


def published(values: Mapping[str, Mapping[str, Any]]) -> Table:
    """The tables that can be reproduced."""
    rows = []
    for name, one in values.items():
        systems = sorted({entry["system"] for entry in one["entries"]} - {""})
        rows.append([name, one["title"], one["corpus"], ", ".join(systems), one["protocol"]])
    return table(("table", "what", "corpus", "systems", "protocol"), rows)


def protocol(values: Mapping[str, Any]) -> list[Any]:
    """A table's protocol, its published figures, and how to get its corpus."""
    rows = [[one["method"], f"{one['figure']:.2f}", one["note"]] for one in values["entries"]]
    sources = sorted({one["source"] for one in values["entries"]})
    numbers = range(1, values["lakes"] + 1) if values["lakes"] > 1 else ("",)
    lakes = " ".join(f"--lake DIR{number}" for number in numbers)
    return [
        table(("method", f"published {values['metric'].replace('_', ' ')}, %", ""), rows),
        f"{values['title']}: {values['protocol']}.",
        f"The corpus: {values['access']}",
        f"Then: {values['ingest']}",
        f"      mien reproduce {values['name']} {lakes}",
        *(f"Source: {source}" for source in sources),
    ]


def reproduced(values: Mapping[str, Any]) -> list[Any]:
    """The paper's figures beside ours, in percent, by rule."""
    rows = []
    for one in values["rows"]:
        ours = one.get("ours")
        bounds = [100 * ours[key] for key in ("value", "low", "high")] if ours else []
        text = "{:.2f} [{:.2f}, {:.2f}]".format(*bounds) if bounds else ""
        rows.append(
            [one["method"], f"{one['published']:.2f}", text, one.get("rule", ""), one["note"]]
        )
    columns = ("method", f"published {values['metric'].replace('_', ' ')}, %", "ours", "rule", "")
    made: list[Any] = [table(columns, rows)]
    if values["differs"]:
        made.append(f"Not comparable with the paper: {'; '.join(values['differs'])}.")
    made += [f"Source: {source}" for source in sorted({one["source"] for one in values["rows"]})]
    return made


def corpora(values: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """What can be read: name, description and layout of each."""
    made: list[Any] = []
    for name, one in values.items():
        made.append(Text.assemble((name, "bold"), "  ", one["description"]))
        made.append(Text(textwrap.indent(one["layout"].strip("\n"), "    ") + "\n"))
    return made


def ingested(values: Mapping[str, Any]) -> list[Any]:
    """What became of a corpus: faces by class, how they were placed, what was rejected and why."""
    rows = [["faces", values["faces"]], ["rejected", values["rejected"]]]
    rows += [[f"rejected: {reason}", count] for reason, count in values["by_reason"].items()]
    rows += [[f"class: {name}", count] for name, count in values["by_class"].items()]
    rows += [[f"placed by: {name}", count] for name, count in values["by_alignment"].items()]
    for name, count in values["expected"].items():
        if values["found"].get(name) != count:
            found = values["found"].get(name, 0)
            rows.append([f"a complete copy: {name}", f"{count}, this one has {found}"])
    share = f"{100 * values['found_share']:.1f} % of the faces were placed by known points or boxes"
    if values["by_alignment"].get("none"):
        share += ", or taken as delivered"
    return [table(("lake", values["lake"]), rows), share]


def pool(values: Mapping[str, Any]) -> list[Any]:
    """A pool of synthetic faces by expression: wanted, admitted, attempts, and the rate."""
    rows = []
    for name, wanted in values["wanted"].items():
        rate = values["admission_rates"].get(name)
        text = "" if rate is None else f"{100 * rate:.1f} %"
        rows.append([name, wanted, values["admitted"][name], values["attempts"][name], text])
    made: list[Any] = [table(("expression", "wanted", "admitted", "attempts", "rate"), rows)]
    if refused := values["refused"]:
        made.append("refused: " + ", ".join(f"{name} {n}" for name, n in refused.items()))
    return [*made, f"{values['pool']}: {values['faces']} faces for fold {values['fold']}"]


def audit(values: Mapping[str, Any]) -> list[Any]:
    """What an audit found, each kind with its first examples; what leaks in a fold comes last."""
    rows = [[name.replace("_", " "), values[name]] for name in ("faces", "subjects")]
    other = sum(not pair["same_subject"] for pair in values["copies"])
    rows += [
        ["exact copies", values["exact_copies"]],
        ["near copies", values["near_copies"]],
        ["copies of another or an unknown subject", other],
        ["copies with different labels", len(values["label_conflicts"])],
        ["copies with different subjects", len(values["subject_conflicts"])],
        ["subjects with one class alone", len(values["one_class_subjects"])],
    ]
    made: list[Any] = [table(("audit", values["lake"]), rows)]
    if values["copies"]:
        pairs = [[*one["files"], one["likeness"]] for one in values["copies"][:EXAMPLES]]
        made.append(table(("copy", "of", "likeness"), pairs))
    if values["giveaways"]:
        rows = [[one["expression"], one["cue"], one["area"]] for one in values["giveaways"]]
        made.append(table(("class", "given away by", "area under ROC, 0.5 is chance"), rows))
    if "fold" in values:
        torn = [["copies", ", ".join(files)] for files in values["leaking_copies"]]
        torn += [["subject", name] for name in values["leaking_subjects"]]
        title = f"on more than one side of fold {values['fold']}: {len(torn) or 'nothing'}"
        made += [table(("", title), torn[:EXAMPLES])] if torn else [title]
    return made


def knobs(settings: Sequence[Any]) -> Table:
    """Settings by path, with the paper's symbol, default, bounds or choices, and meaning."""
    rows = []
    for one in settings:
        valid = ", ".join(map(str, one.choices))
        if one.bounds:
            valid = f"{one.bounds[0]:g} to {one.bounds[1]:g}{' (log)' if one.log else ''}"
        alias = one.alias.rpartition(".")[2] if one.alias else None
        rows.append([one.path, alias, _default(one.default), valid, one.doc])
    return table(("path", "alias", "default", "valid", "what it does"), rows)


def _default(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "all"
    return "none" if value is None else str(value)


def runs(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Runs, the newest last; `within` begins the id of the cross-validation or trial around."""
    columns = ("run", "system", "fold", "state", "images", "images/s", "created", "within")
    lines = []
    for row in rows:
        share = f"{row['images']}/{row['total_images']}" if row["total_images"] else row["images"]
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"]))
        rate = row["images_per_second"]
        rate = f"{rate:.0f}" if rate else None
        told = (row["run_id"], row["system"], row["fold"], row["state"], share, rate, created)
        lines.append((*told, (row["parent"] or "")[:8]))
    return table(columns, lines)


def study(values: Mapping[str, Any]) -> list[Any]:
    """A search: its trials, each with what was set and what validation subjects said of it."""
    names = values["objectives"]
    rows = []
    for trial in values["trials"]:
        settings = ", ".join(f"{key}={_short(value)}" for key, value in trial["params"].items())
        found = trial.get("values") or {}
        figures = [f"{found[name]:.4f}" if name in found else "" for name in names]
        state, same_as = trial["state"].lower(), trial.get("same_as")
        state += "" if same_as is None else f", as trial {same_as}"
        rows.append([trial["number"], state, *figures, settings])
    heads = [name if name == SPEED else f"validation {name}" for name in names]
    made: list[Any] = [table(("trial", "state", *heads, "settings"), rows, values["study"])]
    for objective, shares in values["importance"].items():
        lines = [[path, f"{share:.0%}"] for path, share in shares.items()]
        made.append(table(("setting", f"share in {objective}"), lines))
    if len(names) > 1 and values["front"]:
        told = ", ".join(map(str, values["front"]))
        made.append(f"front: trials {told}; to train one: --from-study {values['study']}:N")
    made += _outer(values)
    if values["cost"]:
        cost = values["cost"]
        made.append(
            f"{cost['trainings']} trainings in {cost['seconds']:.0f} s; pruning saved about "
            f"{cost['saved_share']:.0%}"
        )
    if best := values["best"]:
        made.append(
            f"best: trial {best['number']}, chosen by {_validation(values['validation'])}; to "
            f"train it: {_from_study(values)}"
        )
    return made


def _from_study(values: Mapping[str, Any]) -> str:
    """The command that trains the best setting, and what its test would be worth."""
    command = f"mien train --from-study {values['study']}"
    if values["unseen"] is not None:
        return command
    return f"{command} --allow-leaks (its folds left no subject for a test; --outer K/N does)"


def _validation(values: Mapping[str, Any]) -> str:
    """What chose the best trial, and how sure that is where it is known."""
    if not values:
        return "validation subjects"
    figure, count = f"{values['objective']} {interval(values)}", values["num_subjects"]
    return f"its {figure} on validation subjects ({count}), which flatters it"


def _outer(values: Mapping[str, Any]) -> list[Any]:
    """The own and the best setting on subjects that the search never saw."""
    if not (cards := values["outer"]):
        return []
    best = f"trial {values['best']['number']}"
    shown = [name for name in values["objectives"] if name not in FIGURES]
    shown += [name for name in FIGURES if any(name in card for card in cards.values())]
    rows = []
    for name, card in cards.items():
        figures = [card["objectives"].get(one, card.get(one)) for one in shown]
        rows.append([f"best: {best}" if name == "best" else name, *map(_tested, figures)])
    made: list[Any] = [table(("on subjects set aside", *shown), rows)]
    if before := ", ".join(map(str, values["tested_before"])):
        made.append(f"no untouched test of {best}: these subjects had tested trial {before} before")
    return made


def _tested(figure: Any) -> str:
    return f"{figure:.3f}" if isinstance(figure, float) else interval(figure)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def lake(values: Mapping[str, Any]) -> list[Any]:
    """A lake's summary: single figures first, then each group of counts; what was found of the
    corpus stands beside what a complete copy has, as far as that is known."""
    rows = [[name, value] for name, value in values.items() if isinstance(value, (int, str))]
    for group, counts in values.items():
        if isinstance(counts, Mapping) and group not in ("found", "expected"):
            rows += [[f"{group}: {name}", count] for name, count in counts.items()]
    found, expected = values["found"], values["expected"]
    compared = [[name, found.get(name, 0), expected.get(name)] for name in {**found, **expected}]
    return [
        table(("lake", ""), rows),
        table(("of the corpus", "found", "a complete copy"), compared),
    ]


def hosts(states: Sequence[HostState]) -> Table:
    """The machines of a cluster."""
    rows = [
        (
            one.address,
            one.role,
            "up" if one.alive else ": ".join(filter(None, ("away", one.reason))),
            *((one.cpus, one.gpus, one.memory_bytes / 1e9) if one.alive else (None, None, None)),
        )
        for one in states
    ]
    return table(("machine", "role", "state", "CPUs", "GPUs", "memory, GB"), rows)
