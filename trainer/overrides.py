"""Settings by dotted path: set, list, and read back from JSON."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from data_service.schema import Expression
from trainer import catalog
from trainer.config import FORMAT_VERSION, RunConfig, plain
from trainer.schedules import Ramp, Schedule, parse

_MOST_CLOSE, _LEAST_LIKE = 4, 0.7


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """One setting: its path, its alias by the paper's symbol, its default, bounds and choices.

    `number` is the kind of number that its type allows, whatever its default is; None for none.
    """

    path: str
    alias: str | None
    default: Any
    bounds: tuple[float, float] | None
    choices: tuple[Any, ...]
    number: Literal["int", "float"] | None
    log: bool
    doc: str


def knobs(run: RunConfig) -> tuple[Knob, ...]:
    """Every setting of the run, in the order of declaration."""
    return tuple(_walk(run, ""))


def _walk(section: Any, prefix: str) -> Iterator[Knob]:
    hints = typing.get_type_hints(type(section))
    for item in dataclasses.fields(section):
        if item.name in ("system_name", "recipe"):
            continue
        value, path = getattr(section, item.name), prefix + item.name
        if dataclasses.is_dataclass(value) and not isinstance(value, Ramp):
            yield from _walk(value, f"{path}.")
            continue
        paper = item.metadata.get("paper")
        yield Knob(
            path=path,
            alias=prefix + paper if paper else None,
            default=value,
            bounds=item.metadata.get("bounds"),
            choices=_choices(hints[item.name]),
            number=_number(hints[item.name]),
            log=bool(item.metadata.get("log")),
            doc=item.metadata.get("doc", ""),
        )


def _choices(hint: Any) -> tuple[Any, ...]:
    if hint is bool:
        return (False, True)
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(choice for part in get_args(hint) for choice in _choices(part))
    return ()


def _number(hint: Any) -> Literal["int", "float"] | None:
    if get_origin(hint) in (Union, types.UnionType):
        parts = {_number(part) for part in get_args(hint)}
        return "float" if "float" in parts else "int" if "int" in parts else None
    return "int" if hint is int else "float" if hint is float else None


def canonical_path(run: RunConfig, path: str) -> str:
    """The path behind an alias: `lambda_1` and `system.weights.lambda_1` name one setting."""
    found = {}
    for setting in knobs(run):
        found[setting.path] = setting.path
        if setting.alias:
            found[setting.alias] = setting.path
            found[setting.alias.rpartition(".")[2]] = setting.path
    if path in found:
        return found[path]
    name = f"{run.system_name}.{run.recipe}"
    raise ValueError(
        f"unknown setting '{path}' of {name}; valid: {', '.join(_meant(path, found))}; "
        f"all: mien systems {name} --knobs"
    )


def _meant(path: str, found: Mapping[str, str]) -> list[str]:
    """What an unknown path may stand for: what it is like, its siblings, else the sections."""
    parent = path.rpartition(".")[0]
    close = _close(path, found)
    siblings = [known for known in found if known.rpartition(".")[0] == parent]
    if not siblings:
        close += difflib.get_close_matches(path, found, n=_MOST_CLOSE, cutoff=_LEAST_LIKE)
    listed = [*close, *siblings] if parent else close or siblings
    return list(dict.fromkeys(listed)) or sorted({known.split(".")[0] for known in found.values()})


def _close(path: str, found: Mapping[str, str]) -> list[str]:
    """The names whose last part is most like that of the path; one of each setting."""
    likeness = {}
    for known in found:
        pairs = (path.rpartition(".")[2], known.rpartition(".")[2]), (path, known)
        last, whole = (difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)
        if last >= _LEAST_LIKE:
            likeness[known] = last, whole
    told: dict[str, str] = {}
    for known in sorted(likeness, key=likeness.__getitem__, reverse=True):
        told.setdefault(found[known], known)
    return list(told.values())[:_MOST_CLOSE]


def with_overrides(run: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The run with the settings at the dotted paths replaced.

    Strings are read by the setting's type, so that the command line, the tuner and the tests share
    one way. ValueError names an unknown path with what it may mean, a value outside its bounds or
    not finite, and a setting that has two values under two names.
    """
    tree: dict[str, Any] = {}
    known = {setting.path: setting for setting in knobs(run)}
    for path, value in values.items():
        path = canonical_path(run, path)
        node = tree
        *parents, leaf = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        before = node.setdefault(leaf, _Leaf(known[path], value))
        if str(before.value) != str(value):
            raise ValueError(f"{path} is given as {before.value} and as {value}; give one")
    return _replace(run, tree)


@dataclass(frozen=True, slots=True)
class _Leaf:
    knob: Knob
    value: Any


def _replace(section: Any, tree: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(type(section))
    changes = {}
    for name, node in tree.items():
        if isinstance(node, _Leaf):
            changes[name] = _checked(node.knob, _read(hints[name], node.value, node.knob.path))
        else:
            changes[name] = _replace(getattr(section, name), node)
    return dataclasses.replace(section, **changes)


def _checked(setting: Knob, value: Any) -> Any:
    if setting.bounds is not None:
        low, high = setting.bounds
        ends = (value.start, value.end) if isinstance(value, Ramp) else (value,)
        if any(isinstance(end, (int, float)) and not low <= end <= high for end in ends):
            raise ValueError(f"{setting.path} is {value}; valid: {low} to {high}")
    if not _is_finite(plain(value)):
        raise ValueError(f"{setting.path} is {value}; valid: finite numbers")
    return value


def _is_finite(value: Any) -> bool:
    """Whether no number in a JSON value is infinite or not a number."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _read(hint: Any, value: Any, path: str) -> Any:
    """`value` as the type that `hint` says; text and JSON values alike."""
    try:
        return _convert(hint, value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be {value!r}: {error}") from None


def _convert(hint: Any, value: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint == Schedule:
        return _schedule(value)
    if origin in (Union, types.UnionType):
        return _convert_union(args, value)
    if origin is Literal:
        return _convert_choice(args, value)
    if origin is tuple:
        return _convert_tuple(args, value)
    if hint is bool:
        return _convert_bool(value)
    if hint in (int, float):
        if isinstance(value, bool):
            raise ValueError(f"a {hint.__name__} is needed")
        if hint is int and isinstance(value, float) and not value.is_integer():
            raise ValueError("an int is needed")
        return hint(value)
    if hint is Expression:
        return Expression.parse(value)
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value)  # type: ignore[arg-type]
    if origin in (dict, Mapping) or getattr(origin, "__name__", "") == "Mapping":
        return {str(key): _convert(args[1], item) for key, item in dict(value).items()}
    return value if hint is Any else hint(value)


def _schedule(value: Any) -> Schedule:
    if isinstance(value, Mapping):
        return Ramp(**value)
    if isinstance(value, str):
        return parse(value)
    return value if isinstance(value, Ramp) else float(value)


def _convert_union(args: tuple[Any, ...], value: Any) -> Any:
    if type(None) in args and (value is None or value == "none"):
        return None
    reasons = []
    for part in args:
        if part is type(None):
            continue
        try:
            return _convert(part, value)
        except (TypeError, ValueError) as error:
            reasons.append(str(error))
    raise ValueError("; ".join(reasons))


def _convert_choice(args: tuple[Any, ...], value: Any) -> Any:
    for choice in args:
        if value == choice or str(value) == str(choice):
            return choice
    raise ValueError(f"valid: {', '.join(map(str, args))}")


def _convert_tuple(args: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    parts = [part for part in parts if part != ""]
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], part) for part in parts)
    if len(parts) != len(args):
        raise ValueError(f"{len(args)} values are needed")
    return tuple(_convert(hint, part) for hint, part in zip(args, parts, strict=True))


def _convert_bool(value: Any) -> bool:
    named = {"true": True, "false": False, "1": True, "0": False, "on": True, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() in named:
        return named[str(value).lower()]
    raise ValueError("valid: true, false")


def from_plain(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass of `kind` from JSON values; unknown names are an error that lists the known."""
    hints = typing.get_type_hints(kind)
    names = [item.name for item in dataclasses.fields(kind)]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}; valid: {', '.join(names)}")
    return kind(**{name: _read(hints[name], value, name) for name, value in values.items()})


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """The run that `trainer.config.to_dict` wrote."""
    rest = dict(values)
    version = rest.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise ValueError(f"run settings have format {version}; this mien reads {FORMAT_VERSION}")
    spec = catalog.load(rest["system_name"])
    rest["system"] = from_plain(spec.config, rest["system"])
    return from_plain(RunConfig, rest)
