"""Exponential moving averages of players, for evaluation; taken from the fp32 parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from trainer.system import Player


class Averages:
    """The averaged parameters of every player that asks for them.

    After a step of n images an average moves by 1 - 0.5 ** (n / halflife), so that it does not
    depend on the batch size; early on the halflife is a tenth of the images seen, so that the start
    is forgotten.
    """

    def __init__(self, players: tuple[Player, ...]) -> None:
        self.players = [player for player in players if player.ema_halflife_images]
        self.values: dict[str, dict[str, Tensor]] = {
            player.name: {
                name: parameter.detach().clone()
                for name, parameter in player.module.named_parameters()
            }
            for player in self.players
        }
        self._followed = {player.name: list(player.module.parameters()) for player in self.players}

    @torch.no_grad()
    def update(self, step_images: int, images: int) -> None:
        """Follow the parameters after a step of `step_images`, `images` seen in all."""
        for player in self.players:
            halflife = min(player.ema_halflife_images or 1, max(images / 10, 1e-8))
            follow = 1 - 0.5 ** (step_images / halflife)
            values = list(self.values[player.name].values())
            followed = [parameter.detach() for parameter in self._followed[player.name]]
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
                values, followed, follow
            )

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The players with averaged parameters, and their own again afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for player in self.players:
            values = self.values[player.name]
            for name, parameter in player.module.named_parameters():
                held = parameter.detach().clone()
                parameter.copy_(values[name])
                values[name].copy_(held)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by `player/parameter`."""
        return {
            f"{player}/{name}": value
            for player, values in self.values.items()
            for name, value in values.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        for player, values in self.values.items():
            for name, value in values.items():
                value.copy_(state[f"{player}/{name}"])
