"""Text → the tokens that metrics count. Not to be confused with a model's tokens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from importlib import metadata
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

Tokens = Sequence[str]
"""The tokens of a text. Characters are given as a plain string, which is a sequence of them: no object a character."""


def characters(text: str) -> list[str]:
    """One token a character (Latin letters and digits too), white space dropped, nothing folded.

    Words would need a segmenter whose dictionary then becomes part of the score. Width and case stay as they are (no NFKC):
    an answer that writes `，` where the reference writes `,` differs from it.
    """
    return list("".join(text.split()))


class Choices(msgspec.Struct, frozen=True):
    """Settings of which some are one of several words."""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                raise ValueError(f"{name}: {getattr(self, name)!r}: give one of {', '.join(get_args(hint))}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


class Segmenter(Choices, frozen=True):
    """How a text is cut: into characters, or words by jieba (the extra `words`). `spaces`: what becomes of white space."""

    unit: Literal["char", "jieba"] = "char"
    spaces: Literal["drop", "keep"] = "drop"

    def tokens(self, text: str) -> Tokens:
        """White space that is kept is one token a character; jieba's words hold none."""
        if self.unit == "char":
            return "".join(text.split()) if self.spaces == "drop" else text
        words = _words(text)
        return [word for word in words if not word.isspace()] if self.spaces == "drop" else words

    @property
    def parts(self) -> dict[str, str]:
        """Its parts of a signature. jieba's dictionary is part of the score, hence its version."""
        return {"tok": self.unit if self.unit == "char" else f"jieba-{_jieba_version()}", "ws": self.spaces}


CHARACTERS, WORDS = Segmenter(), Segmenter("jieba")


_NO_JIEBA = "this protocol counts words, which needs jieba: pip install 'medchatzh[words]'"


@lru_cache(maxsize=150_000)  # the references of all of webMedQA, cut once for all systems: some 130 MB
def _words(text: str) -> tuple[str, ...]:
    return tuple(map(sys.intern, _jieba()(text)))


@cache
def _jieba() -> Callable[[str], Iterator[str]]:
    """jieba's accurate mode with its own dictionary only, whatever else in the process has taught the library new words."""
    _jieba_version()
    import logging

    try:
        import jieba
    except ImportError:
        raise ValueError(_NO_JIEBA) from None

    jieba.setLogLevel(logging.WARNING)  # it tells on standard error that it reads its dictionary
    return jieba.Tokenizer().cut


def _jieba_version() -> str:
    try:
        return metadata.version("jieba")
    except metadata.PackageNotFoundError:
        raise ValueError(_NO_JIEBA) from None
