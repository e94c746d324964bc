"""A teacher from another run, checked before it is believed."""

from __future__ import annotations

from torch import nn

from data_service.schema import DatasetInfo


def take_over(teacher: nn.Module, run: str, info: DatasetInfo) -> None:
    """Copy the teacher that `run` trained; ValueError where it is of another kind, shape or class.

    A run of another system, with other classes in other order, or another network is refused.
    """
    from trainer.restore import load_system  # restore knows the systems, and these know this file

    loaded = load_system(run)
    players = {player.name: player.module for player in loaded.system.players()}
    if "teacher" not in players:
        raise ValueError(
            f"system.teacher: run {run} is of {loaded.spec.name}, which has no teacher; give a run "
            "of occlusion_distillation"
        )
    if loaded.info.classes != info.classes:
        raise ValueError(
            f"system.teacher: run {run} knows {', '.join(loaded.info.classes)}; this run has "
            f"{', '.join(info.classes)}"
        )
    given, own = players["teacher"].state_dict(), teacher.state_dict()
    for name in sorted(given.keys() | own.keys()):
        theirs, ours = (tuple(s[name].shape) if name in s else None for s in (given, own))
        if theirs != ours:
            raise ValueError(
                f"system.teacher: run {run} has a teacher of another shape: {name} is "
                f"{theirs or 'missing'} there and {ours or 'missing'} here; set system.network and "
                "data.image_size alike"
            )
    teacher.load_state_dict(given)
