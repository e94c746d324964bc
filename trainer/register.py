"""A trained run as a version in MLflow's model registry: ONNX, a signature, an alias."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.mlflow_store import ensure_store
from trainer import job as jobs
from trainer.inference.export import export
from trainer.job import Job
from trainer.launch import RunResult
from trainer.tracking.moved import told_now
from trainer.tracking.tracker import TrackingError

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

RUNTIMES = ("numpy", "onnx", "onnxruntime")
"""What a registered model needs: neither mien nor torch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """A version of a registered model; `address` is what MLflow loads it by."""

    name: str
    version: int
    alias: str
    run_id: str
    address: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def register(run: str, name: str, alias: str) -> Registered:
    """Export the finished run, checked against the original, as the model's newest version.

    The alias moves to it. ValueError where the run has no finished weights, MLflow takes no such
    name or alias, or does not answer.
    """
    from mlflow.exceptions import MlflowException

    _check(name, alias)
    own = _where_it_is(jobs.load(jobs.find(run)))
    try:
        with tempfile.TemporaryDirectory() as folder:
            export(str(own.directory), Path(folder) / "model")
            number = _logged(own, Path(folder) / "model", name)
        ensure_store(own.tracking_uri).set_registered_model_alias(name, alias, str(number))
    except MlflowException as error:
        raise ValueError(f"MLflow at {own.tracking_uri}: {str(error).splitlines()[0]}") from None
    return Registered(
        name=name,
        version=number,
        alias=alias,
        run_id=own.run_id,
        address=f"models:/{name}@{alias}",
    )


def _where_it_is(own: Job) -> Job:
    try:
        return told_now(own)
    except TrackingError as error:
        raise ValueError(str(error)) from error


def _check(name: str, alias: str) -> None:
    """MLflow's own rules, before a model is made in vain."""
    if not name.strip() or set(name) & set("/:"):
        raise ValueError(f"'{name}' cannot name a registered model; valid: any text without / or :")
    if not re.fullmatch(r"[\w-]+", alias) or re.fullmatch(r"latest|[vV]\d+", alias):
        raise ValueError(
            f"'{alias}' cannot be an alias; valid: letters, digits, _ and -, but not latest or v1"
        )


def _logged(own: Job, folder: Path, name: str) -> int:
    """The model beside its run's figures in MLflow, and the number of its version."""
    client = ensure_store(own.tracking_uri)
    import mlflow.onnx
    import onnx
    from mlflow.models import Model

    told = json.loads((folder / "model.json").read_text())
    run = client.get_run(own.run_id)
    model = client.create_logged_model(run.info.experiment_id, name, own.run_id)
    with _fluent(own.tracking_uri):
        logged = Model.log(
            artifact_path=None,
            model_id=model.model_id,
            flavor=mlflow.onnx,  # pyright: ignore[reportPrivateImportUsage]
            run_id=own.run_id,
            step=RunResult.read(own.directory).images,
            registered_model_name=name,
            onnx_model=onnx.load(folder / "model.onnx"),
            signature=_signature(folder / "model.onnx"),
            metadata=told,
            pip_requirements=[f"{package}=={version(package)}" for package in RUNTIMES],
            save_as_external_data=False,
        )
    number = str(logged.registered_model_version)
    client.update_model_version(name, number, _description(own, told))
    for key, value in (("system", told["system"]), ("fold", own.fold), ("lake", own.lake.name)):
        client.set_model_version_tag(name, number, f"mien.{key}", value)
    return int(number)


@contextmanager
def _fluent(uri: str) -> Iterator[None]:
    """Flavours of MLflow log to the address of the process alone, which is also a variable."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # pyright: ignore[reportArgumentType]  # None: unset


def _signature(path: Path) -> ModelSignature:
    """What the model takes and gives, as its file says; any number of faces."""
    import numpy as np
    import onnxruntime
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def schema(values: Any) -> Schema:
        return Schema(
            [
                TensorSpec(np.dtype(kinds[one.type]), (-1, *one.shape[1:]), one.name)
                for one in values
            ]
        )

    return ModelSignature(
        inputs=schema(session.get_inputs()), outputs=schema(session.get_outputs())
    )


def _description(own: Job, told: dict[str, Any]) -> str:
    """For a person who finds the version in MLflow."""
    classes = f" Classes, in the order of the logits: {', '.join(told['classes'])}."
    return (
        f"{told['system']}, trained on fold {own.fold} of {own.lake.name}. Faces: {told['faces']}."
        f"{classes if 'logits' in told['outputs'] else ''}"
    )
