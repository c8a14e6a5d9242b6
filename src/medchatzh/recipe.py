"""Recipes: TOML files → frozen settings. An unknown key or a wrong type fails before any work, with a "did you mean"."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every settings class. A stage's `Config` stands beside the stage and derives from this."""


S = TypeVar("S", bound=Settings)
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text in quotation marks",
    "bool": "true or false",
    "array": "a list in [ ]",
    "object": "a table of keys and values",
}
"""What msgspec calls types, in plain words."""


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; ValueError with file and line where it is not TOML, or is missing."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # Notepad writes a byte-order mark
    except FileNotFoundError:
        here = ", ".join(sorted(str(found) for found in path.parent.glob("*.toml"))) or "none"
        raise ValueError(f"{path}: no such recipe (recipes in that folder: {here})") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: is a folder; a recipe is a TOML file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); save the recipe as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML: {error}") from None


def override(table: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply `section.key=value` assignments to a copy of `table`. Values are TOML; what is not TOML is taken as a string."""
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ValueError(f"--set {assignment}: write section.key=value, for example --set sft.learning_rate=1e-4")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        nested: Any = value
        for key in reversed(keys):
            nested = {key: nested}
        table = merge(table, nested)
    return table


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, table by table; neither is modified."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def convert(table: Mapping[str, Any], kind: type[S], where: str) -> S:
    """Turn a table into settings. ValueError names `where`, the key's path, and the nearest known key."""
    _reject_unknown(table, kind, where, "")
    _reject_infinite(table, where, "")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        found = re.fullmatch(r"(.*?)(?: - at `\$([^`]*)`)?", str(error), re.DOTALL)
        assert found
        path, message = _plainly(found[2] or "", found[1], table, kind)
        raise ValueError(f"{where}: {path}: {message}" if path else f"{where}: {message}") from None


def _plainly(path: str, message: str, table: Mapping[str, Any], kind: Any) -> tuple[str, str]:
    """A place and msgspec's message about it, in the words of a recipe's author: what stands there, and what to write."""
    place = ""
    value: Any = table
    for step in re.findall(r"\w+|\[[^\]]*\]", path):
        if step == "[...]":  # msgspec does not say under which key
            kind = get_args(kind)[-1]
            key = next(key for key, item in value.items() if not _fits(item, kind))
            place, value = f"{place}.{key}", value[key]
        elif step.startswith("["):
            kind = get_args(kind)[0]
            place, value = place + step, value[int(step[1:-1])]
        else:
            kind = next(field.type for field in msgspec.structs.fields(kind) if field.encode_name == step)
            place, value = f"{place}.{step}".lstrip("."), value[step]
    if expected := re.fullmatch(r"Expected `(\w+)`, got `\w+`", message):
        return place, f"is {value!r}; write {_WORDS.get(expected[1], expected[1])}"
    if message.startswith("Invalid enum value"):
        return place, f"is {value!r}; write one of {', '.join(map(repr, get_args(kind)))}"
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", message):
        return f"{place}.{missing[1]}".lstrip("."), "is missing; add it"
    return place, message


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _reject_unknown(table: Mapping[str, Any], kind: type[Settings], where: str, path: str) -> None:
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"did you mean {path}{near[0]}?" if near else f"known here: {', '.join(fields)}"
            raise ValueError(f"{where}: unknown key {path}{key}; {hint}")
        for item, settings, suffix in _nested(value, fields[key]):
            _reject_unknown(item, settings, where, f"{path}{key}{suffix}.")


def _reject_infinite(value: Any, where: str, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {path}: {value} is not a number to work with")
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        _reject_infinite(inner, where, f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}".lstrip("."))


def _nested(value: Any, kind: Any) -> list[tuple[Mapping[str, Any], type[Settings], str]]:
    """The tables inside a value that are settings themselves: (table, class, path suffix)."""
    if isinstance(kind, type) and issubclass(kind, Settings):
        return [(value, kind, "")] if isinstance(value, Mapping) else []
    found = []
    for inner in get_args(kind):
        if not (isinstance(inner, type) and issubclass(inner, Settings)):
            continue
        if isinstance(value, Mapping):
            found += [(item, inner, f".{name}") for name, item in value.items() if isinstance(item, Mapping)]
        elif isinstance(value, list):
            found += [(item, inner, f"[{number}]") for number, item in enumerate(value) if isinstance(item, Mapping)]
    return found


def resolve_root(root: str, recipe_path: Path) -> Path:
    """The data folder of a recipe. `medchatzh:NAME` is inside the package; a relative path starts at the working folder."""
    packaged = re.fullmatch(r"medchatzh:(.+)", root)
    folder = Path(__file__).parent / packaged[1] if packaged else Path(root).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{recipe_path}: data.root: {folder} is not a folder; give one with --set data.root=FOLDER")
    return folder
