"""Face-identity networks: LightCNN and VGG-Face shapes, trained on a corpus' subjects."""

from trainer.system import SystemSpec
from trainer.systems.identity import recipes
from trainer.systems.identity.system import IdentityConfig, build, data_needs

SPEC = SystemSpec(
    name="identity",
    title="Identity: LightCNN and VGG-Face shapes for identity losses (TIFS 2018, BMVC 2015)",
    config=IdentityConfig,
    build=build,
    recipes={name: getattr(recipes, name) for name in ("paper", "small", "tiny")},
    data=data_needs,
    capabilities=frozenset({"identify"}),
)
