"""Imports go one way: mien -> tuning -> trainer -> data_service -> cluster."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("cluster", "data_service", "trainer", "tuning", "mien")
LIBRARIES_BELOW_THE_CONTRACT = ("ray", "deepspeed", "mlflow")
CONTRACT = (
    "trainer/system.py",
    "trainer/config.py",
    "trainer/schedules.py",
    "trainer/noise.py",
    "trainer/losses",
    "trainer/nets",
    "trainer/systems",
)


def python_files(*parts: str) -> list[Path]:
    """Python files at or below the given paths."""
    found: list[Path] = []
    for part in parts:
        path = ROOT / part
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def imported(path: Path) -> set[tuple[str, int]]:
    """Top-level names of the modules that a file imports, anywhere in it, with the line."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {(alias.name.partition(".")[0], node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names.add(((node.module or "").partition(".")[0], node.lineno))
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_layers_below_it(layer: str) -> None:
    above = LAYERS[LAYERS.index(layer) + 1 :]
    files = python_files(layer if (ROOT / layer).is_dir() else f"{layer}.py")
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for name, line in sorted(imported(path))
        if name in above
    ]
    assert not wrong


def test_the_contract_of_a_system_knows_no_cluster_library() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in python_files(*CONTRACT)
        for name, line in sorted(imported(path))
        if name in LIBRARIES_BELOW_THE_CONTRACT
    ]
    assert not wrong


def test_a_system_imports_no_other_system() -> None:
    systems = [path for path in (ROOT / "trainer/systems").iterdir() if path.is_dir()]
    wrong = []
    for system in systems:
        others = {f"trainer.systems.{other.name}" for other in systems if other != system}
        for path in sorted(system.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                module = node.module if isinstance(node, ast.ImportFrom) else None
                if module and any(module == one or module.startswith(f"{one}.") for one in others):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {module}")
    assert not wrong


def shelf(path: Path) -> str:
    """The folder or file of a room that a file below it stands in."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


@pytest.mark.parametrize("room", [layer for layer in LAYERS if layer != "mien"])
def test_the_shelves_of_a_room_import_one_way(room: str) -> None:
    takes: dict[str, set[str]] = {}
    shelves = {path.name for path in (ROOT / room).iterdir() if path.is_dir()}
    for path in python_files(room):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.ImportFrom) and node.module:
                first, *rest = node.module.split(".")
                names = rest[:1] if rest else [alias.name for alias in node.names]
                if first == room:
                    takes.setdefault(shelf(path), set()).update(set(names) - {shelf(path)})
    both = [(a, b) for a in takes for b in takes[a] & shelves if a in takes.get(b, ())]
    assert not both
