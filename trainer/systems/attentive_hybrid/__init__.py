"""Attentive hybrid architecture (Weng, Yang, Tan, Lei, ICPR 2020): whole face, regions, both."""

from trainer.system import SystemSpec
from trainer.systems.attentive_hybrid import recipes
from trainer.systems.attentive_hybrid.config import HybridConfig
from trainer.systems.attentive_hybrid.system import build, data_needs

SPEC = SystemSpec(
    name="attentive_hybrid",
    title="AHA: global, local and integrated branches with attention and LSTM fusion (ICPR 2020)",
    config=HybridConfig,
    build=build,
    recipes={name: getattr(recipes, name) for name in ("paper", "small", "tiny")},
    data=data_needs,
    capabilities=frozenset({"recognise"}),
    not_in_one_pass="torch.func.vmap has no rule for its LSTMs",
)
