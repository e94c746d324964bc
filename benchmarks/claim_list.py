"""The claims that are put to the test, and the two recipes that show each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claim_counts import confusions, hidden_block, hidden_half
from benchmarks.claim_transfers import transferred
from trainer.presets import PHOTO_CLASSES

Counts = Callable[[Path, Path, str], np.ndarray]
"""Of a run's directory, a lake and a fold: one confusion matrix for each test subject."""

FEW = {"size": 56, "subjects": 40, "faces_per_subject": 8}
TAILED = {"size": 56, "imbalance": 8}
PHOTOS = {"name": "photos", "size": 56, "grey": True}
SEEN_AS_PHOTOS = {"data.classes": ",".join(PHOTO_CLASSES), "data.grey": True}
UNMASKED = {f"system.gates.stage_{number}": False for number in range(1, 5)}
UNATTENDED = {"system.gates.places": False, "system.gates.regions": False}
WITHOUT_TEACHER = {
    "system.weights.label": 1.0,
    "system.weights.distillation": 0.0,
    "system.weights.triplet": 0.0,
    "system.teacher_images": 0,
}
COVERED: Mapping[str, Counts] = {
    "whole faces": confusions,
    "block of 0.4": partial(confusions, change=partial(hidden_block, size=0.4)),
    "block of 0.6": partial(confusions, change=partial(hidden_block, size=0.6)),
    "upper half": partial(confusions, change=partial(hidden_half, half="upper")),
    "lower half": partial(confusions, change=partial(hidden_half, half="lower")),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What a system's paper says, and which two recipes show it.

    `corpus` are the options of `mien ingest drawn` for the lake that it is meant for, or names
    another corpus. `settings` change both sides, or with `peer_settings` ours alone.
    """

    says: str
    ours: str
    peer: str
    corpus: Mapping[str, Any] = field(default_factory=lambda: {"size": 56})
    conditions: Mapping[str, Counts] = field(default_factory=lambda: {"as it is": confusions})
    settings: Mapping[str, Any] = field(default_factory=dict)
    peer_settings: Mapping[str, Any] | None = None

    def sides(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """The recipe and the settings of either side."""
        peer = self.settings if self.peer_settings is None else self.peer_settings
        return {"ours": (self.ours, dict(self.settings)), "peer": (self.peer, dict(peer))}


_PAW = {
    "system.teacher_images": 32_768,
    "system.separate_images": 32_768,
    "system.joint_images": 16_384,
}
_FERSNET = {"system.images": 8_192}

CLAIMS: Mapping[str, Claim] = {
    "oadn": Claim(
        says="landmark-guided attention and regions beat their backbone under occlusion",
        ours="oadn.tiny",
        peer="oadn.tiny_backbone",
        conditions=COVERED,
    ),
    "occlusion_distillation": Claim(
        says="a teacher of whole faces helps students of half-hidden ones",
        ours="occlusion_distillation.tiny",
        peer="occlusion_distillation.tiny_without_teacher",
        conditions={"upper half hidden": confusions},
    ),
    "paw": Claim(
        says="parts and whole read attributes of unaligned faces better than the whole alone",
        ours="paw.tiny",
        peer="paw.tiny_whole",
        corpus={"size": 72, "scenes": True, "subjects": 1500, "faces_per_subject": 8},
        settings={"system.localise_images": 32_768, **_PAW},
        peer_settings=_PAW,
    ),
    "fn2en": Claim(
        says="on few images a face network's guidance beats the same network from scratch",
        ours="fn2en.tiny",
        peer="fn2en.tiny_scratch",
        corpus=FEW,
    ),
    "fn2en_finetuned": Claim(
        says="on few images the guided network beats the face network fine-tuned",
        ours="fn2en.tiny",
        peer="fn2en.tiny_finetuned",
        corpus=FEW,
    ),
    "multilevel_critic": Claim(
        says="critics at a quarter and half of the side beat the final discriminator alone",
        ours="multilevel_critic.tiny",
        peer="multilevel_critic.tiny_final",
        settings={"system.images": 6144},
    ),
    "multilevel_critic_coarse": Claim(
        says="critics at both levels beat those at a quarter of the side (32 of 128 px) alone",
        ours="multilevel_critic.tiny",
        peer="multilevel_critic.tiny_coarse",
        settings={"system.images": 6144},
    ),
    "multilevel_critic_fine": Claim(
        says="critics at both levels beat those at half of the side (64 of 128 px) alone",
        ours="multilevel_critic.tiny",
        peer="multilevel_critic.tiny_fine",
        settings={"system.images": 6144},
    ),
    "exprgan": Claim(
        says="the curriculum beats the full objective from the first step on",
        ours="exprgan.tiny",
        peer="exprgan.tiny_joint",
        settings={"system.controller_images": 4096, "system.refinement_images": 6144},
        peer_settings={"system.refinement_images": 10_240},
    ),
    "attentive_hybrid": Claim(
        says="its attentions to places and regions beat plain averages",
        ours="attentive_hybrid.tiny",
        peer="attentive_hybrid.tiny",
        settings={"system.images": 8192},
        peer_settings={"system.images": 8192, **UNATTENDED},
    ),
    "ter_gan": Claim(
        says="its two consistencies bring the expression over and keep the person",
        ours="ter_gan.tiny",
        peer="ter_gan.tiny",
        conditions={
            "recognition": confusions,
            "expression of a transfer": partial(transferred, counted="expression"),
            "person of a transfer": partial(transferred, counted="person"),
        },
        settings={"system.images": 8192},
        peer_settings={
            "system.images": 8192,
            "system.weights.expression_consistency": 0.0,
            "system.weights.identity_consistency": 0.0,
        },
    ),
    "pixel_fes": Claim(
        says="a ridge for every pixel edits as well as an adversarial network",
        ours="pixel_fes.tiny",
        peer="multilevel_critic.tiny_final",
        peer_settings={"system.images": 6144},
    ),
    "residual_masking": Claim(
        says="a masked backbone beats the bare one",
        ours="residual_masking.tiny",
        peer="residual_masking.tiny",
        corpus={**PHOTOS, "size": 40},
        settings=SEEN_AS_PHOTOS,
        peer_settings={**SEEN_AS_PHOTOS, **UNMASKED},
    ),
    "cascade_gabor": Claim(
        says="a cascade behind Gabor filters beats one behind plain convolutions",
        ours="cascade_gabor.small",
        peer="cascade_gabor.small_plain",
        corpus=PHOTOS,
        settings={"system.images": 3072},
    ),
    "oadn_on_photos": Claim(
        says="landmark-guided attention and regions beat their backbone under occlusion",
        ours="oadn.small",
        peer="oadn.small",
        corpus=PHOTOS,
        conditions=COVERED,
        settings={"system.images": 16_384, **SEEN_AS_PHOTOS},
        peer_settings={
            "system.images": 16_384,
            **SEEN_AS_PHOTOS,
            "system.weights.attention": 0.0,
            "system.weights.region": 0.0,
            "system.weights.whole": 1.0,
        },
    ),
    "attentive_hybrid_on_photos": Claim(
        says="its attentions to places and regions beat plain averages",
        ours="attentive_hybrid.small",
        peer="attentive_hybrid.small",
        corpus=PHOTOS,
        settings={"system.images": 16_384, **SEEN_AS_PHOTOS},
        peer_settings={"system.images": 16_384, **SEEN_AS_PHOTOS, **UNATTENDED},
    ),
    "occlusion_distillation_on_photos": Claim(
        says="a teacher of whole faces helps students of half-hidden ones",
        ours="occlusion_distillation.small",
        peer="occlusion_distillation.small",
        corpus=PHOTOS,
        settings={
            "system.teacher_images": 12_288,
            "system.student_images": 12_288,
            "system.joined_images": 2_048,
            **SEEN_AS_PHOTOS,
        },
        peer_settings={
            "system.student_images": 12_288,
            "system.joined_images": 2_048,
            **SEEN_AS_PHOTOS,
            **WITHOUT_TEACHER,
        },
        conditions={"upper half hidden": confusions},
    ),
    "residual_masking_on_drawn": Claim(
        says="a masked backbone beats the bare one",
        ours="residual_masking.tiny",
        peer="residual_masking.tiny",
        corpus={"size": 40},
        peer_settings=UNMASKED,
    ),
    "cascade_gabor_on_drawn": Claim(
        says="a cascade behind Gabor filters beats one behind plain convolutions",
        ours="cascade_gabor.tiny",
        peer="cascade_gabor.tiny",
        peer_settings={"system.gabor.kind": "none"},
    ),
    "fersnet_hard_sharing": Claim(
        says="one encoder for both tasks recognises better than one for its own",
        ours="fersnet.tiny_hard_sharing",
        peer="fersnet.tiny_single_task",
        corpus=TAILED,
        settings=_FERSNET,
    ),
    "fersnet_convflu": Claim(
        says="two encoders that share by ConvFLU recognise better than one for both tasks",
        ours="fersnet.tiny",
        peer="fersnet.tiny_hard_sharing",
        corpus=TAILED,
        settings=_FERSNET,
    ),
    "fersnet_fesda": Claim(
        says="synthetic faces that balance the classes help the recognition",
        ours="fersnet.tiny_fesda",
        peer="fersnet.tiny",
        corpus=TAILED,
        settings={"system.images": 5_456, "system.augmented_images": 2_736},
        peer_settings=_FERSNET,
    ),
}
