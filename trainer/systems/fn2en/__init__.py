"""FaceNet2ExpNet (Ding, Zhou, Chellappa, FG 2017): a face network teaches an expression network."""

from trainer.system import SystemSpec
from trainer.systems.fn2en import recipes
from trainer.systems.fn2en.config import Fn2enConfig
from trainer.systems.fn2en.system import build, data_needs

SPEC = SystemSpec(
    name="fn2en",
    title="FN2EN: an expression network regularised by a face network (FG 2017)",
    config=Fn2enConfig,
    build=build,
    recipes={
        name: getattr(recipes, name)
        for name in (
            "paper",
            "paper_scratch",
            "paper_finetuned",
            "small",
            "small_scratch",
            "small_finetuned",
            "tiny",
            "tiny_scratch",
            "tiny_finetuned",
        )
    },
    data=data_needs,
    capabilities=frozenset({"recognise"}),
)
