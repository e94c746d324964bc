"""Holds a cluster file against what Ray's launcher refuses before it starts anything."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

SCHEMA = "ray-schema.json"


def hold_against_schema(path: Path, root: yaml.Node, values: Mapping[str, Any]) -> None:
    """As `ray up` does first. ValueError names file, line and key."""
    import jsonschema

    try:
        jsonschema.validate(values, _schema())
    except jsonschema.ValidationError as error:
        place = list(error.absolute_path)
        where, line = ".".join(map(str, place)), line_of(root, place)
        raise ValueError(f"{path}:{line}: {where}: {error.message}") from None


def _schema() -> dict[str, Any]:
    """Ray's, without the seconds that importing it takes."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None and spec.origin is not None
    return json.loads((Path(spec.origin).parent / "autoscaler" / SCHEMA).read_text())


def line_of(node: yaml.Node, place: Sequence[str | int]) -> int:
    """The line of what stands at the place, or of the last thing on the way to it."""
    line = node.start_mark.line
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = [pair for pair in node.value if pair[0].value == str(part)]
            if not found:
                break
            line, node = found[-1][0].start_mark.line, found[-1][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1
