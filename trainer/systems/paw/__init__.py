"""PaW (Ding, Zhou, Zhou, Chellappa, AAAI 2018): attributes of faces that nobody aligned."""

from trainer.system import SystemSpec
from trainer.systems.paw import recipes
from trainer.systems.paw.config import PawConfig
from trainer.systems.paw.system import build, data_needs

SPEC = SystemSpec(
    name="paw",
    title="PaW: a deep cascade of parts and whole for unaligned attributes (AAAI 2018)",
    config=PawConfig,
    build=build,
    recipes={name: getattr(recipes, name) for name in recipes.NAMES},
    data=data_needs,
    capabilities=frozenset({"attributes"}),
)
