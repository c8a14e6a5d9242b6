"""Signatures in sacrebleu's manner: one line that says how a number was made."""

from __future__ import annotations

from medchatzh import __version__


def signature(family: str, /, **parts: str) -> str:
    """`BLEU|lvl:sentence|w:cum|…`: the family, then the parts in the order given."""
    return "|".join([family, *(f"{key}:{value}" for key, value in parts.items())])


def version(equals: str) -> str:
    """The `v:` part of a number of ours that is that of a library: `medchatzh-0.1.0=nltk-3.8.1`. '' where no library has it."""
    return f"medchatzh-{__version__}" + (f"={equals}" if equals else "")


def conflicts(first: str, second: str) -> tuple[str, ...]:
    """The parts in which two signatures differ, `family` for the metric itself. Numbers may be ranked together where there are none.

    In `v:` what a number is equal to counts, not who worked it out: `medchatzh-0.1.0=nltk-3.8.1`, `medchatzh-0.2.0=nltk-3.8.1` and
    `nltk-3.8.1` agree.
    """
    parts, others = _parts(first), _parts(second)
    return tuple(key for key in parts | others if parts.get(key) != others.get(key))


def _parts(line: str) -> dict[str, str]:
    family, *parts = line.split("|")
    found = {"family": family} | dict(part.partition(":")[::2] for part in parts)
    if "v" in found:
        found["v"] = found["v"].rpartition("=")[2]
    return found
