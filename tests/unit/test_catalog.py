from __future__ import annotations

import pytest

from trainer import catalog
from trainer.system import CAPABILITIES


def test_the_systems_are_the_folders() -> None:
    assert {"fersnet", "exprgan", "identity"} <= set(catalog.names())


@pytest.mark.parametrize("name", catalog.names())
def test_every_system_says_what_it_is(name: str) -> None:
    spec = catalog.load(name)
    assert spec.name == name
    assert spec.title
    assert {"paper", "small", "tiny"} <= set(spec.recipes)
    assert spec.capabilities and spec.capabilities <= set(CAPABILITIES)


@pytest.mark.parametrize("name", catalog.names())
def test_every_recipe_names_itself(name: str) -> None:
    for key in catalog.load(name).recipes:
        run = catalog.recipe(f"{name}.{key}")
        assert (run.system_name, run.recipe) == (name, key)
        assert isinstance(run.system, catalog.load(name).config)


def test_small_is_what_a_system_means_alone() -> None:
    name = catalog.names()[0]
    assert catalog.recipe(name) == catalog.recipe(f"{name}.small")


def test_unknown_systems_and_recipes_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown system 'fersnett'; valid: .*fersnet"):
        catalog.recipe("fersnett.tiny")
    with pytest.raises(ValueError, match=r"unknown recipe 'fersnet.huge'; valid: .*fersnet\.tiny"):
        catalog.recipe("fersnet.huge")
