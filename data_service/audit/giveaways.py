"""Whether something that is no expression tells the class: colour, light, or the pictures' size.

A shallow decision tree sees nothing else, and names the class of faces of subjects that it was not
fitted on. Where it does much better than chance, so may a network, and its accuracy says little of
expressions.

Shapes: N faces, F features, K classes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data_service.audit.findings import Giveaway
from data_service.folds import class_codes, subject_keys
from data_service.schema import Expression

MIN_AREA = 0.75
"""Area under the ROC curve from which a class counts as given away; chance has 0.5."""
MIN_FACES, MIN_SUBJECTS = 20, 5
_MAX_FACES = 20_000
_PARTS = 5


def find_giveaways(table: pa.Table, colours_NF: np.ndarray) -> tuple[Giveaway, ...]:
    """The classes that colour or size gives away, the clearest first.

    Classes of few faces or subjects are left out: nothing can be said of them.
    """
    found = []
    for cue, features_NF in (("colour", colours_NF), ("size", _sizes(table))):
        if features_NF is not None:
            found += _by(cue, features_NF, table)
    return tuple(sorted(found, key=lambda one: -one.area))


def _sizes(table: pa.Table) -> np.ndarray | None:
    """Height and width of the pictures, and how many of their pixels a face's side has."""
    if table["crop_matrix"].null_count:
        return None
    heights, widths = (table[name].to_numpy() for name in ("source_height", "source_width"))
    matrices_N23 = np.array(table["crop_matrix"].to_pylist()).reshape(-1, 2, 3)
    areas_N = np.abs(np.linalg.det(matrices_N23[:, :, :2]))
    return np.column_stack([heights, widths, 1 / np.sqrt(np.maximum(areas_N, 1e-12))])


def _by(cue: str, features_NF: np.ndarray, table: pa.Table) -> list[Giveaway]:
    from sklearn.metrics import roc_auc_score  # takes a second to import

    codes_N = class_codes(table, tuple(Expression))
    subjects_N = subject_keys(table)
    rows = _judged(codes_N, subjects_N)
    if len(np.unique(codes_N[rows])) < 2 or not np.ptp(features_NF[rows], axis=0).any():
        return []
    classes_N = codes_N[rows]
    chances_NK = _cross_fitted(features_NF[rows], classes_N, subjects_N[rows])
    found = []
    for place, code in enumerate(np.unique(classes_N)):
        area = float(roc_auc_score(classes_N == code, chances_NK[:, place]))
        if area >= MIN_AREA:
            found.append(
                Giveaway(cue=cue, expression=tuple(Expression)[code].value, area=round(area, 3))
            )
    return found


def _judged(codes_N: np.ndarray, subjects_N: np.ndarray) -> np.ndarray:
    """The rows of classes with enough faces and subjects; of very many, every so-manieth."""
    enough = [
        code
        for code in range(len(Expression))
        if (codes_N == code).sum() >= MIN_FACES
        and len(np.unique(subjects_N[codes_N == code])) >= MIN_SUBJECTS
    ]
    rows = np.flatnonzero(np.isin(codes_N, enough))
    return rows[:: -(-len(rows) // _MAX_FACES) or 1]


def _cross_fitted(
    features_NF: np.ndarray, classes_N: np.ndarray, subjects_N: np.ndarray
) -> np.ndarray:
    """N x K: the share of each class where a tree without the face's subject puts the face."""
    from sklearn.model_selection import GroupKFold
    from sklearn.tree import DecisionTreeClassifier

    known = np.unique(classes_N)
    chances_NK = np.zeros((len(classes_N), len(known)))
    for fitted, judged in GroupKFold(_PARTS).split(features_NF, classes_N, subjects_N):
        tree = DecisionTreeClassifier(
            max_depth=5, min_samples_leaf=10, class_weight="balanced", random_state=0
        ).fit(features_NF[fitted], classes_N[fitted])
        places = np.searchsorted(known, tree.classes_)
        chances_NK[np.ix_(judged, places)] = tree.predict_proba(features_NF[judged])
    return chances_NK
