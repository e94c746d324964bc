"""What a system, or a stage of it, needs of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data_service.planning.partners import RULES
from data_service.schema import Expression

VIEWS = ("augmented", "second", "plain")
FIELDS = ("intensity", "landmarks", "attributes", "votes")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataNeeds:
    """What the plan must supply to a system or to one of its stages.

    `partner`: none, or one or several of same_subject (of its sitting where it can be),
    same_subject_anytime (of any sitting), other_subject, same_class, other_class. `views`: the
    first is the batch's faces, all are in its `views`: augmented, second (augmented once more,
    independently), plain (cut out centrally). `fields`: intensity, landmarks, attributes, votes.
    `attributes` names those that are wanted; none means all that the lake has.
    `classes` and `batch_images` None mean the run's. Where there are several workers, each one's
    share of a batch is a multiple of `share_multiple`, for a system that works on every n-th face
    of it alone. `balance` draws every class equally often. `target` is how a target expression is
    drawn: the face's own, any other class, or the first partner's class. `synthetic_share` is the
    share of synthetic faces in the long run, or as many as the pool has faces for; `proportional`
    shows every one as often as every real one.
    `unaligned` says that the system is meant for faces that nobody aligned, as in its paper; others
    are not refused.
    """

    partner: str | tuple[str, ...] = "none"
    views: tuple[str, ...] = ("augmented",)
    fields: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    classes: tuple[Expression, ...] | None = None
    balance: bool = False
    batch_images: int | None = None
    share_multiple: int = 1
    frames: int = 1
    target: Literal["own", "other_expression", "partner"] = "own"
    synthetic_share: float | Literal["proportional"] = 0.0
    unaligned: bool = False

    def __post_init__(self) -> None:
        _check("partner rule", self.partners, RULES)
        _check("view", self.views, VIEWS)
        _check("field", self.fields, FIELDS)
        _check("target", (self.target,), ("own", "other_expression", "partner"))
        if not self.views:
            raise ValueError(f"at least one view is needed; valid: {', '.join(VIEWS)}")
        if self.attributes and "attributes" not in self.fields:
            raise ValueError("attributes are named, but the field 'attributes' is not asked for")
        if self.target == "partner" and not self.partners:
            raise ValueError("target 'partner' needs a partner rule")
        if self.frames != 1:
            raise ValueError(f"frames is {self.frames}; only single frames (1) are streamed")
        share = self.synthetic_share
        if share != "proportional" and not 0 <= share < 1:
            raise ValueError(f"synthetic_share is {share}; valid: 0 to below 1, or proportional")

    @property
    def partners(self) -> tuple[str, ...]:
        """The partner rules, in order; the first one is `target`'s partner."""
        rules = (self.partner,) if isinstance(self.partner, str) else self.partner
        return () if rules == ("none",) else rules


def _check(what: str, given: Sequence[str], valid: Sequence[str]) -> None:
    for name in given:
        if name not in valid:
            raise ValueError(f"unknown {what} '{name}'; valid: {', '.join(valid)}")
