"""OADN (Ding, Zhou, Chellappa, IJCB 2020): expressions of faces that are partly hidden."""

from trainer.system import SystemSpec
from trainer.systems.oadn import recipes
from trainer.systems.oadn.config import OadnConfig
from trainer.systems.oadn.system import build, data_needs

SPEC = SystemSpec(
    name="oadn",
    title="OADN: landmark-guided attention and facial regions under occlusion (IJCB 2020)",
    config=OadnConfig,
    build=build,
    recipes={name: getattr(recipes, name) for name in recipes.NAMES},
    data=data_needs,
    capabilities=frozenset({"recognise"}),
)
