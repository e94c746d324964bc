"""TER-GAN (Ali, Hughes, ICPR 2020): one person's expression on another person's face."""

from trainer.system import SystemSpec
from trainer.systems.ter_gan import recipes
from trainer.systems.ter_gan.config import TerGanConfig
from trainer.systems.ter_gan.system import build, data_needs

SPEC = SystemSpec(
    name="ter_gan",
    title="TER-GAN: disentangled expression transfer with two consistencies (ICPR 2020)",
    config=TerGanConfig,
    build=build,
    recipes={name: getattr(recipes, name) for name in ("paper", "small", "tiny")},
    data=data_needs,
    capabilities=frozenset({"recognise", "synthesise", "transfer"}),
)
