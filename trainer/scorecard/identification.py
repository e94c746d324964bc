"""How well a system tells subjects that it has not seen apart.

Shapes: N faces, D features.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from trainer.nets.identity_source import verification_auc
from trainer.scorecard.evaluate import evaluating
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.intervals import share_by_subject
from trainer.scorecard.synthesis_scores import rank_1


@torch.no_grad()
def identification_card(examinee: Examinee, num_faces: int) -> dict[str, Any]:
    """Rank-1 retrieval with its interval, and the verification AUC, on at most `num_faces` faces.

    A subject is known by the mean of its other faces. Plain JSON values; the AUC has no interval.
    """
    rows_N = examinee.spread(num_faces)
    with evaluating(examinee.system):
        found = [examinee.system.predict(batch).features_BD for batch in examinee.batches(rows_N)]
    features_ND = functional.normalize(
        torch.cat([one for one in found if one is not None]).float(), dim=1
    )
    unit_ND = features_ND.cpu().numpy()
    subjects_N = examinee.subjects(rows_N)
    hits_N = rank_1(unit_ND, np.arange(len(rows_N)), unit_ND, subjects_N)
    interval = share_by_subject(hits_N, subjects_N)
    auc = verification_auc(unit_ND, subjects_N, examinee.run.seed)
    return {
        "rank_1": None if interval is None else asdict(interval),
        "verification_auc": auc if np.isfinite(auc) else None,
        "num_faces": len(rows_N),
        "num_subjects": len(np.unique(subjects_N)),
    }
