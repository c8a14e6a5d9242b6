"""What a check is, and what it finds. A check registers itself; one that breaks becomes a finding, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from medchatzh.doctor.subject import Subject

Severity = Literal["error", "warning", "note"]
"""error: something will fail. warning: it runs, and is likely to cost hours or quality. note: worth knowing, and maybe as it should be."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that a check has found."""

    check: str
    """Name of the check, as in docs/doctor.md."""
    severity: Severity
    where: str
    """File, setting or package."""
    what: str
    remedy: str


Seen = tuple[Severity, str, str, str]
"""(severity, where, what, remedy), as checks yield it."""


class Check(NamedTuple):
    """A registered check, with what users read of it in Chinese; English stands in the function's docstring and in what it yields."""

    name: str
    theme: str
    """Name of its module."""
    fault: str
    remedy: str
    find: Callable[[Subject], Iterable[Seen]]

    @property
    def meaning(self) -> str:
        """The first paragraph of the docstring."""
        assert self.find.__doc__, self.name
        return " ".join(self.find.__doc__.partition("\n\n")[0].split())


THEMES = ("machine", "settings", "checkpoint", "data")
"""Modules of checks, in the order in which they speak."""
CHECKS: dict[str, Check] = {}
"""Those registered so far; `checks` sees to it that all are."""


def check(fault: str, remedy: str) -> Callable[[Callable[[Subject], Iterable[Seen]]], Callable[[Subject], Iterable[Seen]]]:
    """Register a function under its own name: subject → what is wrong. `fault` and `remedy`: a short Chinese line each."""

    def register(find: Callable[[Subject], Iterable[Seen]]) -> Callable[[Subject], Iterable[Seen]]:
        name = find.__name__
        assert name not in CHECKS, name
        CHECKS[name] = Check(name, find.__module__.rpartition(".")[2], fault, remedy, find)
        return find

    return register


def checks(themes: Sequence[str] = THEMES) -> list[Check]:
    """All checks of some themes. Only their modules are imported: but for `machine` they need what native Windows has not."""
    for theme in themes:
        import_module(f"medchatzh.doctor.{theme}")
    return [one for theme in themes for one in CHECKS.values() if one.theme == theme]


def findings(one: Check, subject: Subject) -> Iterator[Finding]:
    """What a check finds. Whatever it raises is a finding too: a doctor who falls ill must not hide what the others see."""
    try:
        for seen in one.find(subject):
            yield Finding(one.name, *seen)
    except Exception as error:  # a checkpoint or a machine in a state that nobody foresaw
        told = next(iter(str(error).splitlines()), "")
        yield Finding(one.name, "note", one.name, f"could not check 未能检查: {type(error).__name__}: {told}", "look there yourself")
