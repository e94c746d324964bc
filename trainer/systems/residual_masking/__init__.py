"""Residual Masking Network (Pham, Vu, Tran, ICPR 2020): U-Nets that mask a ResNet's maps."""

from trainer.system import SystemSpec
from trainer.systems.residual_masking import recipes
from trainer.systems.residual_masking.config import ResidualMaskingConfig
from trainer.systems.residual_masking.system import build, data_needs

SPEC = SystemSpec(
    name="residual_masking",
    title="Residual Masking Network: a ResNet whose stages are masked by U-Nets (ICPR 2020)",
    config=ResidualMaskingConfig,
    build=build,
    recipes={name: getattr(recipes, name) for name in ("paper", "small", "small_unmasked", "tiny")},
    data=data_needs,
    capabilities=frozenset({"recognise"}),
)
