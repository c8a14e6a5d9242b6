"""Curation of one record, slowly: every repair's edit, and every rule's verdict with the thresholds that it looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple, cast

from medchatzh.curate import Config
from medchatzh.curate.mend import mend
from medchatzh.curate.privacy import DEFAULT_KINDS, mask, values
from medchatzh.curate.rules import Case, PoolRules, Seen, chosen
from medchatzh.explain.story import Check, Edit
from medchatzh.records import Dialogue, Turn
from medchatzh.report.data import hide
from medchatzh.report.draws import MASK

_AROUND = 12
_MAX_CHANGES = 4
_EXCERPT_CHARS = 160


class Judgement(NamedTuple):
    """What curation makes of a record: the text that the rules saw, the edits, and each rule's verdict in the order in which they speak."""

    record: Dialogue
    edits: tuple[Edit, ...]
    checks: tuple[Check, ...]
    spans: dict[str, tuple[int, int, int]]
    """Rule → where it saw something: (turn, start, end)."""
    known: Mapping[str, str]
    """The personal data of the record, to be masked wherever they are quoted."""


class _Watched:
    """Settings that remember which thresholds were looked at."""

    def __init__(self, settings: PoolRules) -> None:
        self._settings = settings
        self.seen: dict[str, object] = {}

    def __getattr__(self, name: str) -> Any:
        self.seen[name] = value = getattr(self._settings, name)
        return value


def judge(record: Dialogue, config: Config, boilerplate: frozenset[str]) -> Judgement:
    """Repair a record and ask every rule in force. The first with something seen names the reason."""
    edits: list[tuple[str, Sequence[Turn], Sequence[Turn]]] = []
    original = record

    def told(name: str, before: Sequence[Turn], after: Sequence[Turn]) -> None:
        edits.append((name, before, after))

    record = mend(record, config, boilerplate, told)
    kinds = tuple(dict.fromkeys((*DEFAULT_KINDS, *config.personal_kinds)))
    known = values([turn.content for turn in (*original.turns, *record.turns)], kinds)
    shown = (
        Edit(name, number, change(private(old.content, known), private(new.content, known)))
        for name, before, after in edits
        for number, (old, new) in enumerate(zip(before, after, strict=True))
        if old.content != new.content
    )
    checks, spans = [], {}
    for rule in chosen(config.rules):
        watched = _Watched(config.thresholds(record.pool, record.source))
        settings = cast(PoolRules, watched)
        seen = rule.find(Case.of(record, settings, personal_kinds=config.kinds(record.pool), boilerplate=boilerplate))
        if isinstance(seen, Seen):
            spans[rule.name] = (seen.turn, seen.start, seen.end)
            seen = seen.detail
        checks.append(Check(rule.name, watched.seen, private(seen or "", known)))
    return Judgement(record, tuple(shown), tuple(checks), spans, known)


def private(text: str, known: Mapping[str, str] | None = None) -> str:
    """The text without personal data: masked by kind, and what still looks like a number of someone blacked out.

    `known`: values found elsewhere in the record.
    """
    return hide(mask(text, known=known))


def excerpt(judged: Judgement, span: tuple[int, int, int]) -> str:
    """The text around a span, which stands in `【】`; where a masked value reaches over its ends, around the mask."""
    turn, start, end = span
    text = judged.record.turns[turn].content
    parts = [private(part, judged.known) for part in (text[:start], text[start:end], text[end:])]
    if "".join(parts) != private(text, judged.known):
        return masked_place(text, judged.known)
    before, within, after = map(visible, parts)
    return cut(f"{before}【{within}】{after}", len(before), len(before) + len(within) + 2)


def masked_place(text: str, known: Mapping[str, str]) -> str:
    """The masked text around its first mask, masks in `【】`; '' where it has none."""
    whole = private(text, known)
    start = next((place for place, (old, new) in enumerate(zip(text, whole, strict=False)) if old != new), None)
    if start is None:
        return ""
    return cut(visible(whole[:start] + MASK.sub(r"【\g<0>】", whole[start:])), start, start)


def cut(text: str, start: int, end: int) -> str:
    """About `_EXCERPT_CHARS` characters of a text, around a place."""
    room = max(0, _EXCERPT_CHARS - (end - start)) // 2
    first, last = max(0, start - room), min(len(text), max(end, start + _EXCERPT_CHARS // 2) + room)
    return ("…" if first else "") + text[first:last] + ("…" if last < len(text) else "")


def change(before: str, after: str) -> str:
    """The differing places of two texts with what stands around them: `患[-,-]{+，+}者`."""
    groups = list(SequenceMatcher(None, before, after, autojunk=len(before) > 2000).get_grouped_opcodes(_AROUND))
    shown = []
    for group in groups[:_MAX_CHANGES]:
        words = ""
        for kind, start, end, other_start, other_end in group:
            if kind == "equal":
                words += visible(before[start:end])
                continue
            words += f"[-{visible(before[start:end])}-]" if start < end else ""
            words += f"{{+{visible(after[other_start:other_end])}+}}" if other_start < other_end else ""
        shown.append(words)
    more = f" …（另 {len(groups) - _MAX_CHANGES} 处 / more）" if len(groups) > _MAX_CHANGES else ""
    return " … ".join(shown) + more


def visible(text: str) -> str:
    """Line ends as `↵`, what does not print as its code."""
    return "".join("↵" if mark == "\n" else mark if mark.isprintable() else f"\\u{ord(mark):04x}" for mark in text)
