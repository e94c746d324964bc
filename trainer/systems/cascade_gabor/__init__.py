"""Cascade decision with Gabor filters (Wu, Zhang, Chen, Navarrete Michelini, ICPR 2020)."""

from trainer.system import SystemSpec
from trainer.systems.cascade_gabor import recipes
from trainer.systems.cascade_gabor.config import CascadeGaborConfig
from trainer.systems.cascade_gabor.system import build, data_needs

SPEC = SystemSpec(
    name="cascade_gabor",
    title="Cascade and Gabor: easy expressions first, by networks behind Gabor filters (ICPR 2020)",
    config=CascadeGaborConfig,
    build=build,
    recipes={name: getattr(recipes, name) for name in ("paper", "small", "small_plain", "tiny")},
    data=data_needs,
    capabilities=frozenset({"recognise"}),
)
