"""Signatures in sacrebleu's manner: one line that says how a number was made. Two numbers compare only if theirs are equal."""

from __future__ import annotations

from importlib import metadata


def signature(family: str, /, **parts: str) -> str:
    """`BLEU|lvl:sentence|w:cum|…`: the family, then the parts in the order given."""
    return "|".join([family, *(f"{key}:{value}" for key, value in parts.items())])


def version(library: str) -> str:
    """The `v:` part of a number that an installed library works out: `nltk-3.10.4`."""
    return f"{library}-{metadata.version(library)}"
