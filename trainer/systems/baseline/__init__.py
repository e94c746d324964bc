"""Plain classifiers: the floor that every paper must beat, and the scorecard's recogniser."""

from trainer.system import SystemSpec
from trainer.systems.baseline import recipes
from trainer.systems.baseline.config import BaselineConfig
from trainer.systems.baseline.system import build, data_needs

SPEC = SystemSpec(
    name="baseline",
    title="Baseline: ResNet-18, AlexNet, VGG-13 and a plain small CNN (CVPR 2016, 2014; ICMI 2016)",
    config=BaselineConfig,
    build=build,
    recipes={
        name: getattr(recipes, name)
        for name in ("paper", "paper_alexnet", "paper_vgg13", "small", "small_resnet18", "tiny")
    },
    data=data_needs,
    capabilities=frozenset({"recognise"}),
)
