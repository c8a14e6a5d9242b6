"""Repairs: small edits that make a text clean without changing what it says. Each is idempotent and named in `Dialogue.edits`."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

import msgspec

from medchatzh.curate.lists import harmonise
from medchatzh.records import Dialogue, Turn

Repair = Callable[[str], str]

# Tab and line feed stay; U+200D stays because it joins emoji; U+FFFD stays because it tells that something was lost.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200c\u200e\u200f\u2028-\u202e\u2060\ufeff]")
_FULL_WIDTH = {
    code: code - 0xFEE0 for first, last in (("０", "９"), ("Ａ", "Ｚ"), ("ａ", "ｚ")) for code in range(ord(first), ord(last) + 1)
}
_FULL_WIDTH_SEEN = re.compile("[０-９Ａ-Ｚａ-ｚ]")
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#[0-9]{2,6}|#[xX][0-9A-Fa-f]{2,5});")
_BREAK = re.compile(r"<\s*(?:br|/p|p)\s*/?\s*>", re.IGNORECASE)
_MARKUP = re.compile(r"```|<(?:html|head|body|div|span|table|script|!DOCTYPE)", re.IGNORECASE)
_COMMA = re.compile(r"(?<=[\u4e00-\u9fff])\s?,\s?(?=[\u4e00-\u9fff])")
_TRAILING = re.compile(r"[ \t\u3000\xa0]+(?=\n)")
_BLANK_LINES = re.compile(r"\n{3,}")


def control_characters(text: str) -> str:
    """Drop control and zero-width characters; write every kind of line end as a line feed."""
    if text.isprintable():
        return text
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x85", "\n"))


def html_entities(text: str) -> str:
    """`&nbsp;` → space, `<br>` → line end. Texts that show mark-up or code are left alone: there it is the content."""
    if ("&" not in text and "<" not in text) or _MARKUP.search(text):
        return text
    while (changed := _BREAK.sub("\n", _ENTITY.sub(lambda entity: html.unescape(entity[0]), text))) != text:
        if _MARKUP.search(changed):
            return text
        text = changed
    return text


def full_width(text: str) -> str:
    """Ａ１ → A1. Punctuation stays full-width: that is how Chinese is written."""
    return text.translate(_FULL_WIDTH) if _FULL_WIDTH_SEEN.search(text) else text


def half_width_commas(text: str) -> str:
    """`,` between hanzi → `，` (1,139 of 29,972 real records have it)."""
    return _COMMA.sub("，", text) if "," in text else text


def white_space(text: str) -> str:
    """Strip both ends and line ends; at most one empty line; indentation stays (code, tables)."""
    text = text.replace("\xa0", " ").replace("\u3000", " ").strip()
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text))


def leading_punctuation(text: str) -> str:
    """An answer cannot begin with a comma: `，与走路姿势没有关系` (what a template or a greeting left behind)."""
    return text.lstrip("，。、；,; \n\t")


REPAIRS: dict[str, Repair] = {
    "control_characters": control_characters,
    "html_entities": html_entities,
    "full_width": full_width,
    "half_width_commas": half_width_commas,
    "white_space": white_space,
    "leading_punctuation": leading_punctuation,
    "list_numbers": harmonise,
}
"""Every repair by name, in the order in which they work."""

_ANSWERS_ONLY = frozenset({"leading_punctuation", "list_numbers"})


def repair(dialogue: Dialogue, names: Sequence[str]) -> Dialogue:
    """Apply the named repairs in the order of `REPAIRS`; those that changed a turn are added to `edits`."""
    turns = list(dialogue.turns)
    made = []
    for name, edit in REPAIRS.items():
        if name not in names:
            continue
        changed = [turn if name in _ANSWERS_ONLY and turn.role != "assistant" else Turn(turn.role, edit(turn.content)) for turn in turns]
        if changed != turns:
            made.append(name)
            turns = changed
    return msgspec.structs.replace(dialogue, turns=tuple(turns), edits=(*dialogue.edits, *made)) if made else dialogue
