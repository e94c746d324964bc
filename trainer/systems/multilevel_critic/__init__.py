"""Multi-level critic (Park, Kim, Ro, MMM 2019): critics watch over the decoder's inner images."""

from trainer.system import SystemSpec
from trainer.systems.multilevel_critic import recipes
from trainer.systems.multilevel_critic.config import MultilevelCriticConfig
from trainer.systems.multilevel_critic.system import build, data_needs

SPEC = SystemSpec(
    name="multilevel_critic",
    title="Multi-level critic: photo- and variation-realistic critics at 32 and 64 px (MMM 2019)",
    config=MultilevelCriticConfig,
    build=build,
    recipes={
        name: getattr(recipes, name)
        for name in (
            "paper",
            "paper_32",
            "paper_64",
            "paper_pose",
            "small",
            "small_coarse",
            "small_fine",
            "tiny",
            "tiny_coarse",
            "tiny_fine",
            "tiny_final",
            "tiny_pose",
        )
    },
    data=data_needs,
    capabilities=frozenset({"synthesise"}),
)
