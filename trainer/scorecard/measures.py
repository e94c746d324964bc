"""All that a trained system is measured by besides recognition: which parts, and when.

At the end of every run: synthesis on few faces, identification, attributes, pose. With
`mien evaluate`: synthesis on more. With `mien evaluate --full`: also every occlusion and the gain
by synthetic faces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from trainer.scorecard.attribute_scores import attribute_card
from trainer.scorecard.evaluate import Predictions
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.gain import gain_card
from trainer.scorecard.identification import identification_card
from trainer.scorecard.robustness import occlusion_card, pose_card
from trainer.scorecard.synthesis_scores import synthesis_card

Depth = Literal["brief", "usual", "full"]
SYNTHESIS_FACES: Mapping[Depth, int] = {"brief": 64, "usual": 256, "full": 1024}


def measure(
    examinee: Examinee, predictions: Predictions | None, depth: Depth = "usual"
) -> dict[str, Any]:
    """Cards by name (pose, occlusion, synthesis, gain, identification, attributes), those that
    apply; plain JSON values.

    `predictions` are those of the rows under test, where the system recognises.
    """
    found: dict[str, Any] = {}
    if predictions is not None:
        found["pose"] = pose_card(examinee, predictions)
        if depth == "full":
            found["occlusion"] = occlusion_card(examinee, predictions)
    if examinee.can("synthesise"):
        found["synthesis"] = synthesis_card(examinee, SYNTHESIS_FACES[depth])
        if depth == "full":
            found["gain"] = gain_card(examinee)
    if examinee.can("identify"):
        found["identification"] = identification_card(examinee, SYNTHESIS_FACES[depth])
    if examinee.can("attributes"):
        found["attributes"] = attribute_card(examinee)
    return {name: card for name, card in found.items() if card is not None}


def flat(cards: Mapping[str, Any]) -> dict[str, float]:
    """Every figure by path, such as `synthesis/edit_accuracy` and its `_low` and `_high`."""
    return dict(_flat("", cards))


def _flat(path: str, value: Any) -> Iterator[tuple[str, float]]:
    if not isinstance(value, Mapping):
        return
    if {"value", "low", "high"} <= set(value):
        yield path, value["value"]
        yield f"{path}_low", value["low"]
        yield f"{path}_high", value["high"]
        return
    for name, one in value.items():
        yield from _flat(f"{path}/{name}".lstrip("/"), one)
