"""Quoted records with marks: the span a rule saw, a masked value, the characters in which two texts differ."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

import msgspec

from medchatzh.report.data import hide

_ROLES = {"user": "问", "assistant": "答", "system": "设"}
_BLANKS = str.maketrans({"\n": "↵", "\r": "↵", "\t": " ", "\u3000": " ", "\xa0": " "})


class Piece(msgspec.Struct, frozen=True, omit_defaults=True):
    text: str
    marked: bool = False


def transcript(record: Any) -> tuple[str, list[int]]:
    """The text of a record in builtins, whatever its form (a dialogue, a document, a raw row), and where each turn's content begins."""
    match record:
        case {"turns": [*turns]} if all(isinstance(turn, dict) for turn in turns):
            text, starts = "", []
            for turn in turns:
                text += ("\n" if text else "") + _ROLES.get(str(turn.get("role")), "—") + "："
                starts.append(len(text))
                text += str(turn.get("content", ""))
            return text, starts
        case str():
            return record, []
        case {"text": str() as text} | {"question": str() as text}:
            return text, []
        case None:
            return "", []
        case _:
            return msgspec.json.encode(record).decode(), []


def marked(text: str, spans: Iterable[tuple[int, int]], limit: int, *, whole: bool = False) -> tuple[Piece, ...]:
    """The text in pieces, the spans (in order, apart) marked; `limit` characters from a little before the first span, or from the start."""
    shown = hide(text).translate(_BLANKS)
    found = [(start, end) for start, end in spans if start < end]
    first = max(0, min(found[0][0] - limit // 3, len(shown) - limit)) if found and not whole else 0
    last = first + limit
    pieces = [Piece("…")] if first else []
    place = first
    for start, end in found:
        start, end = max(start, place), min(end, last)
        if start < end:
            pieces += [Piece(shown[place:start]), Piece(shown[start:end], marked=True)]
            place = end
    pieces += [Piece(shown[place:last]), Piece("…" if last < len(shown) else "")]
    return tuple(piece for piece in pieces if piece.text)


def differences(first: str, second: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The spans of each text that the other has not, or has otherwise."""
    spans: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for kind, start, end, other_start, other_end in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind != "equal":
            spans[0].append((start, end))
            spans[1].append((other_start, other_end))
    return spans
