"""Teacher-student training for half-hidden faces (Georgescu, Ionescu, ICPR 2020)."""

from trainer.system import SystemSpec
from trainer.systems.occlusion_distillation import recipes
from trainer.systems.occlusion_distillation.config import DistillationConfig
from trainer.systems.occlusion_distillation.system import build, data_needs

SPEC = SystemSpec(
    name="occlusion_distillation",
    title="Occlusion distillation: teacher-student and triplet for half-hidden faces (ICPR 2020)",
    config=DistillationConfig,
    build=build,
    recipes={name: getattr(recipes, name) for name in recipes.NAMES},
    data=data_needs,
    capabilities=frozenset({"recognise"}),
)
