"""ExprGAN (Ding, Sricharan, Chellappa, AAAI 2018): expressions edited at a chosen intensity."""

from trainer.system import SystemSpec
from trainer.systems.exprgan import recipes
from trainer.systems.exprgan.config import ExprganConfig
from trainer.systems.exprgan.system import build, data_needs

SPEC = SystemSpec(
    name="exprgan",
    title="ExprGAN: expression editing with controllable intensity (AAAI 2018)",
    config=ExprganConfig,
    build=build,
    recipes={name: getattr(recipes, name) for name in ("paper", "small", "tiny", "tiny_joint")},
    data=data_needs,
    capabilities=frozenset({"synthesise", "intensity", "transfer"}),
)
