"""FERSNet (Zhao, Liu, Xiao, Lun, Lam, ICPR 2020): recognition and synthesis together."""

from trainer.system import SystemSpec
from trainer.systems.fersnet import recipes
from trainer.systems.fersnet.config import FersnetConfig
from trainer.systems.fersnet.system import build, data_needs, lacks

SPEC = SystemSpec(
    name="fersnet",
    title="FERSNet: joint recognition and synthesis with ConvFLU gates (ICPR 2020)",
    config=FersnetConfig,
    build=build,
    recipes={
        name: getattr(recipes, name)
        for name in (
            "paper",
            "paper_single_task",
            "paper_hard_sharing",
            "paper_fesda",
            "figure",
            "small",
            "small_single_task",
            "small_hard_sharing",
            "small_fesda",
            "tiny",
            "tiny_single_task",
            "tiny_hard_sharing",
            "tiny_fesda",
        )
    },
    data=data_needs,
    capabilities=frozenset({"recognise", "synthesise"}),
    lacks=lacks,
)
