"""Which other face goes with a face: one of the same subject, of another class, and so on.

Every rule draws uniformly from all faces that it allows, by the sample's own key, in O(log N).
Shapes: N faces to choose from, B samples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_service import seeds

RULES = ("same_subject", "same_subject_anytime", "other_subject", "same_class", "other_class")
_OF_ONE_SUBJECT = ("same_subject", "same_subject_anytime")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Samples:
    """The samples that seek a partner; rows that are not among the candidates are synthetic.

    `class_B` is what a sample is shown as, by a vote on it perhaps, `given_B` what the lake says it
    is, as every partner is what the lake says.
    """

    key_B: np.ndarray
    row_B: np.ndarray
    class_B: np.ndarray
    given_B: np.ndarray
    group_B: np.ndarray
    sitting_B: np.ndarray


class Candidates:
    """The training faces of a stage, sorted so that what a rule allows lies side by side.

    `groups` number the subjects and `sittings` the sittings of all subjects; faces without a
    subject or a sitting are groups and sittings of their own.
    """

    def __init__(
        self,
        rows_N: np.ndarray,
        classes_N: np.ndarray,
        groups_N: np.ndarray,
        sittings_N: np.ndarray,
    ) -> None:
        self._num_classes = int(classes_N.max()) + 1
        by_class = np.lexsort((rows_N, classes_N))
        self._class_rows, self._class_sorted = rows_N[by_class], classes_N[by_class]
        self._row_order = np.argsort(self._class_rows, kind="stable")
        self._group_rows, self._group_sorted = self._grouped(rows_N, classes_N, groups_N)
        self._sitting_rows, self._sitting_sorted = self._grouped(rows_N, classes_N, sittings_N)

    def _grouped(
        self, rows_N: np.ndarray, classes_N: np.ndarray, groups_N: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows sorted by group and class, and the number that each group's class sorts by."""
        order = np.lexsort((rows_N, classes_N, groups_N))
        return rows_N[order], (groups_N * self._num_classes + classes_N)[order]

    def draw(self, rule: str, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        """Partner rows [B], and whether the rule could be kept [B].

        `same_subject` is another expression of the same subject, of the same sitting where there is
        one, so that a pair differs in the expression before all else; `same_subject_anytime` is one
        of whatever sitting, so that it also differs in what sittings do: pose, light, camera. Where
        the subject has none, both fall back on a face of another class, hence of another subject.
        Where a rule finds nobody at all, the partner is the sample itself.
        """
        rows_B, valid_B = getattr(self, f"_{rule}")(samples)
        if rule in _OF_ONE_SUBJECT and not valid_B.all():
            fallback_B, _ = self._other_class(samples)
            rows_B = np.where(valid_B, rows_B, fallback_B)
        return rows_B, valid_B

    def _same_subject(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        anytime = self._another_class(
            "same_subject", samples, samples.group_B, self._group_rows, self._group_sorted
        )
        sitting = self._another_class(
            "same_sitting", samples, samples.sitting_B, self._sitting_rows, self._sitting_sorted
        )
        rows_B = np.where(sitting[1], sitting[0], anytime[0])
        return rows_B, sitting[1] | anytime[1]

    def _same_subject_anytime(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        return self._another_class(
            "same_subject_anytime",
            samples,
            samples.group_B,
            self._group_rows,
            self._group_sorted,
        )

    def _another_class(
        self,
        draw: str,
        samples: Samples,
        group_B: np.ndarray,
        rows: np.ndarray,
        in_order: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """A face of the same group and another class."""
        first_B = group_B * self._num_classes
        span, hole = (
            (
                np.searchsorted(in_order, first_B + start_B),
                np.searchsorted(in_order, first_B + stop_B),
            )
            for start_B, stop_B in (
                (0, self._num_classes),
                (samples.class_B, samples.class_B + 1),
            )
        )
        return _pick(draw, samples, rows, span, hole, self._voted(samples))

    def _other_subject(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        span = (np.zeros_like(samples.row_B), np.full_like(samples.row_B, len(self._group_rows)))
        return _pick("other_subject", samples, self._group_rows, span, self._group_span(samples))

    def _same_class(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        sorted_rows = self._class_rows[self._row_order]
        found_B = np.searchsorted(sorted_rows, samples.row_B)
        found_B = np.minimum(found_B, len(sorted_rows) - 1)
        place_B = self._row_order[found_B]
        among_B = self._class_rows[place_B] == samples.row_B
        among_B &= samples.given_B == samples.class_B
        first_B, last_B = self._class_span(samples)
        skip_B = np.where(among_B, place_B, last_B)
        return _pick(
            "same_class", samples, self._class_rows, (first_B, last_B), (skip_B, skip_B + among_B)
        )

    def _other_class(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        span = (np.zeros_like(samples.row_B), np.full_like(samples.row_B, len(self._class_rows)))
        hole = self._class_span(samples)
        return _pick("other_class", samples, self._class_rows, span, hole, self._voted(samples))

    def _voted(self, samples: Samples) -> np.ndarray:
        """Which samples are shown as another class than they are."""
        return np.isin(samples.row_B, self._class_rows) & (samples.given_B != samples.class_B)

    def _class_span(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        first_B = np.searchsorted(self._class_sorted, samples.class_B)
        return first_B, np.searchsorted(self._class_sorted, samples.class_B + 1)

    def _group_span(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        first_B = np.searchsorted(self._group_sorted, samples.group_B * self._num_classes)
        end = (samples.group_B + 1) * self._num_classes
        return first_B, np.searchsorted(self._group_sorted, end)


def _pick(
    rule: str,
    samples: Samples,
    rows: np.ndarray,
    span: tuple[np.ndarray, np.ndarray],
    hole: tuple[np.ndarray, np.ndarray],
    itself_B: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One of rows[span] outside of rows[hole], which lies within the span.

    Where the sample is one of these itself (`itself_B`), the last of them stands in its place and
    is not drawn otherwise.
    """
    hole_B = hole[1] - hole[0]
    count_B = (span[1] - span[0]) - hole_B - (0 if itself_B is None else itself_B)
    valid_B = count_B > 0

    def taken(number_B: np.ndarray) -> np.ndarray:
        index_B = span[0] + number_B
        index_B = index_B + np.where(index_B >= hole[0], hole_B, 0)
        return rows[np.minimum(index_B, len(rows) - 1)]

    chosen_B = taken(seeds.integers(samples.key_B, rule, np.maximum(count_B, 1)))
    if itself_B is not None and itself_B.any():
        chosen_B = np.where(itself_B & (chosen_B == samples.row_B), taken(count_B), chosen_B)
    return np.where(valid_B, chosen_B, samples.row_B), valid_B
