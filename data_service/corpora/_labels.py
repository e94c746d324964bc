"""Words for expressions and for parts of a split, as people name folders and columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from data_service.schema import Expression

WORDS: Mapping[str, Expression] = {
    **{expression.value: expression for expression in Expression},
    "angry": Expression.ANGER,
    "contemptuous": Expression.CONTEMPT,
    "disgusted": Expression.DISGUST,
    "afraid": Expression.FEAR,
    "fearful": Expression.FEAR,
    "happy": Expression.HAPPINESS,
    "sad": Expression.SADNESS,
    "surprised": Expression.SURPRISE,
}
SPLITS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
LEFT_OUT = "-"
MOST_DIGITS = 9
"""Of a code: longer numbers are none, and very long ones are not read at all."""


class Labels:
    """What the labels of a source mean: `WORDS`, and what the user's own mapping says before it.

    `mapping` is a text like `0:neutral,1:happiness,misc:-`, where `-` leaves faces out. Numbers
    mean nothing unless it tells: every corpus counts in its own order.
    """

    def __init__(self, mapping: str = "") -> None:
        self._meaning: dict[str, Expression | None] = dict(WORDS)
        for pair in filter(None, (one.strip() for one in str(mapping).split(","))):
            label, colon, word = (part.strip() for part in pair.rpartition(":"))
            if not (colon and label):
                raise ValueError(
                    f"option labels '{pair}': valid: LABEL:EXPRESSION, as in 0:neutral,misc:-"
                )
            self._meaning[label.lower()] = None if word == LEFT_OUT else Expression.parse(word)

    def know(self, labels: Iterable[str]) -> bool:
        """Whether there are labels and all of them mean something."""
        labels = list(labels)
        return bool(labels) and all(label.lower() in self._meaning for label in labels)

    def of(self, label: str, where: str) -> Expression | None:
        """What a label means; None: its faces are left out. ValueError, `where`, if unknown."""
        if label.lower() not in self._meaning:
            valid = ", ".join(self._meaning)
            raise ValueError(
                f"{where}: unknown expression '{label[:60]}'; valid: {valid}; others by the option "
                f"labels={label[:60]}:happiness, or {label[:60]}:{LEFT_OUT} to leave them out"
            )
        return self._meaning[label.lower()]


def of_code(text: str, codes: Mapping[int, Expression]) -> Expression | None:
    """The expression of a code as it is written; None for a text that is no code."""
    written = text.isdecimal() and len(text) <= MOST_DIGITS
    return codes.get(int(text)) if written else None


def split_of(text: str, where: str) -> str | None:
    """The part of the official split that a word names; None for no word."""
    if not text:
        return None
    if text.lower() not in SPLITS:
        raise ValueError(f"{where}: unknown part '{text[:60]}'; valid: {', '.join(SPLITS)}")
    return SPLITS[text.lower()]
