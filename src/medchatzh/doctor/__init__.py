"""Doctor: what will fail, or cost hours, told before it does. Machine, recipe, checkpoints and a bounded sample of the data.

Each check is a function beside its like (`machine`, `settings`, `checkpoint`, `data`) that yields what it sees; see docs/doctor.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medchatzh.doctor.finding import Finding
    from medchatzh.doctor.subject import Subject

__all__ = ["add_arguments", "examine", "main"]


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    command.add_argument("recipe", type=Path, metavar="RECIPE", nargs="?", help="a TOML file; without one the machine alone is looked at")
    command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one setting (repeatable)")
    command.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders lie (default: runs)")
    command.add_argument("--json", action="store_true", help="for machines")


def main(options: argparse.Namespace) -> int:
    """Examine and print. Exit status: 1 where something will fail, else 0."""
    from medchatzh.doctor import machine, show
    from medchatzh.doctor.subject import Subject

    started = time.monotonic()
    here = machine.look()
    # Native Windows is told so, and nothing else: there the recipe's stages cannot even be imported.
    subject = Subject(here, None if here.platform == "win32" else options.recipe, options.set, options.runs)
    found, num_checks = examine(subject)
    told = show.as_json if options.json else show.text
    print(told(found, subject.machine, num_checks, time.monotonic() - started), end="")
    return int(any(finding.severity == "error" for finding in found))


def examine(subject: Subject) -> tuple[list[Finding], int]:
    """What all checks find, in their order, and how many there were: without a recipe those of the machine alone."""
    from medchatzh.doctor.finding import checks, findings

    if subject.has_recipe or not subject.path:
        chosen = checks() if subject.has_recipe else checks(("machine",))
    else:
        chosen = [one for one in checks(("machine", "settings")) if one.theme == "machine" or one.name == "recipe"]
    return [finding for one in chosen for finding in findings(one, subject)], len(chosen)
