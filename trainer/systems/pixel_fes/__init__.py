"""Pixel-based facial expression synthesis (Akram, Khan, ICPR 2020): one ridge fit per pixel."""

from trainer.system import SystemSpec
from trainer.systems.pixel_fes import recipes
from trainer.systems.pixel_fes.system import PixelFesConfig, build, data_needs

SPEC = SystemSpec(
    name="pixel_fes",
    title="Pixel-based FES: a ridge regression for every pixel, solved at once (ICPR 2020)",
    config=PixelFesConfig,
    build=build,
    recipes={name: getattr(recipes, name) for name in ("paper", "small", "tiny")},
    data=data_needs,
    capabilities=frozenset({"synthesise"}),
    not_in_one_pass="it is solved, not trained",
)
