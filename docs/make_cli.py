"""Writes docs/cli.md, docs/recipe.md and docs/claims.md from the code, or with --check fails where they no longer agree with it."""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec

os.environ["COLUMNS"] = "100"  # argparse wraps help to the terminal

from medchatzh.claims import claims
from medchatzh.cli import COMMANDS, parser
from medchatzh.doctor import show
from medchatzh.pipeline import Recipe
from medchatzh.recipe import Settings

HERE = Path(__file__).parent
MADE = "<!-- made by `make docs`; edit the code, not this page -->\n"


def commands() -> str:
    """The help text of every command."""
    root = parser()
    (choices,) = (action.choices for action in root._actions if isinstance(action, argparse._SubParsersAction))
    parts = [f"{MADE}# 命令行 / Command line\n", f"```text\n{root.format_help()}```\n"]
    for name in COMMANDS:
        parts.append(f"## medchatzh {name}\n\n```text\n{choices[name].format_help()}```\n")
        for action in choices[name]._actions:
            if isinstance(action, argparse._SubParsersAction):
                parts += [f"### medchatzh {name} {step}\n\n```text\n{one.format_help()}```\n" for step, one in action.choices.items()]
    return "\n".join(parts)


def settings() -> str:
    """Every setting of a recipe: key, type, default, meaning."""
    parts = [
        f"{MADE}# 配方 / Recipe\n\nA recipe is a TOML file; each table below is one of its tables. `--set table.key=value` overrides one.\n"
    ]
    for field in msgspec.structs.fields(Recipe):
        if nested := nested_settings(field):
            parts.append(table(field.name + nested[1], nested[0], value_of(field)))
    parts.append("## arms\n\n" + docstrings(Recipe)["arms"] + "\n")
    return "\n".join(parts)


def nested_settings(field: msgspec.structs.FieldInfo) -> tuple[type[Settings], str] | None:
    """(settings class, "" or "[]") of a field that is a table, or an array of tables."""
    for kind in [field.type, *get_args(field.type)]:
        if isinstance(kind, type) and issubclass(kind, Settings):
            return kind, "" if kind is field.type else "[]"
    return None


def value_of(field: msgspec.structs.FieldInfo) -> Any:
    """A field's default, or NODEFAULT where it is required."""
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def table(name: str, kind: type[Settings], instance: Any) -> str:
    """A settings class as Markdown; `instance` is the recipe's default for it, whose values may differ from the class's."""
    meanings = docstrings(kind)
    rows, inner = [], []
    for field in msgspec.structs.fields(kind):
        value = getattr(instance, field.name) if isinstance(instance, kind) else value_of(field)
        if nested := nested_settings(field):
            inner.append(table(f"{name}.{field.name}{nested[1]}", nested[0], value))
            continue
        shown = "required" if value is msgspec.NODEFAULT else f"`{msgspec.json.encode(value).decode()}`".replace("|", "\\|")
        rows.append(f"| `{field.name}` | {type_name(field.type)} | {shown} | {meanings.get(field.name, '')} |")
    heading = [f"## {name}\n", "| key | type | default | meaning |", "|---|---|---|---|"] if rows else [f"## {name}"]
    return "\n".join([*heading, *rows, "", *inner])


def type_name(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    return f"`{text}`".replace("|", "\\|")


def docstrings(kind: type) -> dict[str, str]:
    """Field → the string under it, base classes included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not issubclass(base, Settings) or base is Settings:
            continue
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for statement, following in zip(body, [*body[1:], None], strict=True):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                found[statement.target.id] = " ".join(str(following.value.value).split()).replace("|", "\\|")
    return found


def main() -> int:
    stale = []
    sample = Path("src/medchatzh/samples/benchmark/medQA.test.txt")  # printed as it is given: run from the root of the repository
    for name, text in {"cli.md": commands(), "recipe.md": settings(), "claims.md": MADE + claims(sample), "doctor.md": show.page()}.items():
        path = HERE / name
        if "--check" not in sys.argv:
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
    if stale:
        print(f"docs/{' and docs/'.join(stale)} no longer agree with the code: run `make docs` and commit", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    raise SystemExit(main())
