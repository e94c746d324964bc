"""A trained system for use without mien: ONNX and torch.export, checked against the original.

Shapes: B faces, C channels, S side of the crop, K classes, A attributes, D features.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_service.alignment.align import TEMPLATE_52
from data_service.schema import FaceBatch, Prediction
from trainer import job as jobs
from trainer.inference.photographs import YAW, has_pose
from trainer.job import Job
from trainer.restore import LoadedSystem, load_system

FORMAT_VERSION = 1
OUTPUTS: Mapping[str, tuple[str, str]] = {
    "recognise": ("logits", "logits_BK"),
    "synthesise": ("images", "images_BCHW"),
    "attributes": ("attributes", "attributes_BA"),
    "identify": ("features", "features_BD"),
}
"""What is given for each capability: the output's name, and the field of a Prediction."""
LEFT_OUT: Mapping[str, str] = {
    "transfer": "no other face can be shown to it: it gives the expression of a class alone",
    YAW: "no pose can be asked for: every head is turned to the front",
}
"""What `model.json` says of what the run can do and its models cannot."""
CHECKED_FACES = (1, 3)
TOLERANCE = 1e-3
"""Most that an output may differ, relative to the original's largest value where that is above 1.
Two runtimes add in different orders; a wrong operator differs by far more."""
ONE_VIEW = (
    "of each face as it is given; mien's own answers, and the run's accuracy, are of the mean of "
    "these and those of the face's mirror image"
)
"""What `model.json` says of the logits of a run with `evaluation.flip`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The folder that was written, and how far each model is at most from the original."""

    run_id: str
    out: str
    files: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    differences: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Exportable(nn.Module):
    """A system as one module: faces (and what is asked of them) in, its predictions out.

    Faces are float32 B x C x S x S in [-1, 1]; for a system that makes faces also the target class
    (int64, B), and with intensity its level (float32, B).
    """

    def __init__(self, loaded: LoadedSystem) -> None:
        super().__init__()
        self._system = loaded.system
        self.modules_ = nn.ModuleList([player.module for player in loaded.system.players()])
        self.frozen_ = nn.ModuleList(loaded.system.frozen().values())
        can = loaded.spec.capabilities
        self.inputs = ["faces"]
        self.inputs += ["target_expression"] if "synthesise" in can else []
        self.inputs += ["target_intensity"] if "intensity" in can else []
        self.inputs += ["landmarks"] if loaded.info.landmarks else []
        self.outputs = [OUTPUTS[one][0] for one in OUTPUTS if one in can]
        self._fields = [OUTPUTS[one][1] for one in OUTPUTS if one in can]

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in the order of `outputs`."""
        values = dict(zip(self.inputs, given, strict=True))
        faces_BCHW = values["faces"]
        zero_B = torch.zeros_like(faces_BCHW[:, 0, 0, 0], dtype=torch.int64)
        target_B = values.get("target_expression", zero_B)
        prediction: Prediction = self._system.predict(
            FaceBatch(
                faces_BCHW=faces_BCHW,
                expression_B=target_B,
                target_expression_B=target_B,
                subject_B=zero_B - 1,
                row_B=zero_B,
                key_B=zero_B,
                synthetic_B=zero_B.bool(),
                target_intensity_B=values.get("target_intensity"),
                landmarks_BL3=values.get("landmarks"),
            )
        )
        return tuple(getattr(prediction, name) for name in self._fields)


def export(run: str, out: Path) -> Exported:
    """Write `model.onnx`, `model.pt2` (torch.export) and `model.json` into the new folder `out`.

    `model.json` says what goes in and comes out, how a face must be placed, and under `left_out`
    what `mien` can ask of the run and nobody of the models: the expression of another face
    (`transfer`), and, of a run with pose, a `yaw` other than to the front. The models answer to a
    face as it is given: the mean with its mirror image, of which the run's accuracy is where it has
    `evaluation.flip`, is the caller's to take. Both models are run beside the original, on one face
    and on three, and always on the CPU, which is where onnxruntime runs them; the folder appears
    only when they agree. ValueError where the folder exists, or the run has no finished weights.
    """
    loaded = load_system(run)
    if out.exists():
        raise ValueError(f"{out} exists already; name a new folder")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"{out} cannot be written: there is no folder {out.absolute().parent}")
    draft = out.absolute().with_name(f".{out.name}.{os.getpid()}")
    draft.mkdir()
    try:
        exported = _write(loaded, draft, out)
        os.rename(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return exported


def _write(loaded: LoadedSystem, folder: Path, out: Path) -> Exported:
    model = Exportable(loaded).eval()
    program = _program(model, _example(loaded, model, 2))
    torch.export.save(program, folder / "model.pt2")
    torch.onnx.export(
        program,
        f=str(folder / "model.onnx"),
        input_names=model.inputs,
        output_names=model.outputs,
        external_data=False,
        verbose=False,
    )
    (folder / "model.json").write_text(json.dumps(_described(loaded, model), indent=1) + "\n")
    differences = _differences(loaded, model, folder)
    for name, difference in differences.items():
        if difference > TOLERANCE:
            raise RuntimeError(
                f"{name} differs from the original by {difference:.2g}, more than {TOLERANCE:g}"
            )
    return Exported(
        run_id=loaded.directory.name,
        out=str(out),
        files=tuple(sorted(path.name for path in folder.iterdir())),
        inputs=tuple(model.inputs),
        outputs=tuple(model.outputs),
        differences=differences,
    )


def _program(model: Exportable, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """The traced model, for any number of faces."""
    count = torch.export.Dim("faces", min=1, max=4096)
    with torch.no_grad():
        return torch.export.export(
            model, example, dynamic_shapes=(tuple({0: count} for _ in example),), strict=False
        )


def _example(loaded: LoadedSystem, model: Exportable, count: int) -> tuple[Tensor, ...]:
    """Seeded inputs for `count` faces; the confidence of a landmark is in [0, 1]."""
    info = loaded.info
    generator = torch.Generator().manual_seed(count)
    shape = (count, info.channels, info.image_size, info.image_size)
    points = (count, info.landmarks, 3)
    in_pixels_3 = torch.tensor([info.image_size, info.image_size, 1.0])
    values = {
        "faces": torch.rand(shape, generator=generator) * 2 - 1,
        "target_expression": torch.arange(count) % max(len(info.classes), 1),
        "target_intensity": torch.rand(count, generator=generator),
        "landmarks": torch.rand(points, generator=generator) * in_pixels_3,
    }
    return tuple(values[name] for name in model.inputs)


def _differences(loaded: LoadedSystem, model: Exportable, folder: Path) -> dict[str, float]:
    """The largest difference of each file's outputs from the original's."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    program = torch.export.load(folder / "model.pt2").module()
    found = {"model.onnx": 0.0, "model.pt2": 0.0}
    for count in CHECKED_FACES:
        given = _example(loaded, model, count)
        named = dict(zip(model.inputs, (value.numpy() for value in given), strict=True))
        with torch.no_grad():
            expected = [value.numpy() for value in model(*given)]
            traced = [value.numpy() for value in program(*given)]
        for name, values in (("model.onnx", session.run(None, named)), ("model.pt2", traced)):
            pairs = zip(values, expected, strict=True)
            found[name] = max(found[name], *(_difference(*pair) for pair in pairs))
    return found


def _difference(found: Any, expected: np.ndarray) -> float:
    scale = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(np.asarray(found) - expected).max()) / scale


def _described(loaded: LoadedSystem, model: Exportable) -> dict[str, Any]:
    """What somebody must know who has the files alone."""
    info, job = loaded.info, jobs.load(loaded.directory)
    size = info.image_size
    points = {} if loaded.spec.data(loaded.run.system).unaligned else _points(job, size)
    averaged = "logits" in model.outputs and loaded.run.evaluation.flip
    return {
        "format_version": FORMAT_VERSION,
        "run_id": loaded.directory.name,
        "system": f"{loaded.run.system_name}.{loaded.run.recipe}",
        "inputs": model.inputs,
        "outputs": model.outputs,
        "classes": [str(name) for name in info.classes],
        "attributes": list(info.attributes),
        "faces": f"float32, faces x {info.channels} x {size} x {size}, in [-1, 1], RGB or grey",
        "left_out": _left_out(loaded),
        **points,
        **({"logits": ONE_VIEW} if averaged else {}),
    }


def _left_out(loaded: LoadedSystem) -> dict[str, str]:
    """What cannot be asked of the models, each with what that means."""
    can = loaded.spec.capabilities
    missing = can - {*OUTPUTS, "intensity"}
    if "synthesise" in can and has_pose(loaded):
        missing |= {YAW}
    return {name: LEFT_OUT[name] for name in sorted(missing)}


def _points(job: Job, size: int) -> dict[str, Any]:
    points_52 = TEMPLATE_52 * job.face_pixels - (job.face_pixels - size) // 2
    meaning = "where left eye, right eye, nose tip and mouth corners lie in a face, x y"
    return {"points": {"meaning": meaning, "pixels": points_52.round(3).tolist()}}
