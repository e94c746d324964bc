"""The comparison page of an experiment: what it needs is read, and the page is kept in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.mlflow_store import experiment_id
from tuning.details import Details, details_of
from tuning.page import page
from tuning.recorded import by_id, open_store, runs_of, tag
from tuning.report import write
from tuning.rows import Comparison

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DETAILED_ROWS = 24
"""Of how many rows of a block, the best, curves, confusion matrices and edits are shown; of trials
that did not come to their end, none are."""


def publish(uri: str, comparison: Comparison, path: Path) -> None:
    """Write the page, and keep it in MLflow as an artifact of the experiment's run `comparison`.

    ValueError where the file's folder does not exist.
    """
    client = open_store(uri)
    runs = runs_of(client, uri, comparison.experiment)
    studies = [run for run in runs if tag(run, "mien.kind") == "study"]
    text = page(
        comparison,
        _details(client, comparison, by_id(runs)),
        saved=" ".join(filter(None, (_saved(study) for study in studies))),
    )
    write(text, path)
    _keep(client, uri, comparison.experiment, runs, path)


def _details(
    client: MlflowClient, comparison: Comparison, known: Mapping[str, Run]
) -> dict[tuple[str, ...], Details]:
    return {
        row.run_ids: details_of(client, [known[run_id] for run_id in row.run_ids])
        for block in comparison.blocks
        for row in [row for row in block.rows if not row.ending][:DETAILED_ROWS]
    }


def _saved(study: Run) -> str:
    """What pruning saved in a study, in a sentence; empty where nothing was pruned."""
    metrics = study.data.metrics
    share = metrics.get("cost/saved_share", 0.0)
    if not share:
        return ""
    hours = metrics.get("cost/saved_seconds", 0.0) / 3600
    name = study.info.run_name or study.info.run_id
    return f"In {name} pruning saved about {share:.0%} of the training ({hours:.1f} h)."


def _keep(client: MlflowClient, uri: str, experiment: str, runs: Sequence[Run], path: Path) -> None:
    """One run holds the page, whatever the times that it is made."""
    own = next((run for run in runs if tag(run, "mien.kind") == "comparison"), None)
    if own is None:
        own = client.create_run(
            experiment_id(client, uri, experiment),
            run_name="comparison",
            tags={
                "mien.kind": "comparison",
                "mlflow.source.name": "mien compare",
                "mlflow.note.content": "The page of `mien compare --html`, under Artifacts.",
            },
        )
        client.set_terminated(own.info.run_id, "FINISHED")
    client.log_artifact(own.info.run_id, str(path))
