"""Random samples of the rejects, in one pass over files that may hold millions: what is not drawn is never decoded whole."""

from __future__ import annotations

import heapq
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from medchatzh.records import Reject
from medchatzh.report.data import Inputs
from medchatzh.report.quotes import transcript

STAGES = ("ingest", "books", "curate", "score")
"""Stages that write `rejects.jsonl`."""
MASK = re.compile("<[\u4e00-\u9fffA-Z]{1,6}>|某某|某医院")
"""What curation puts in the place of a value: `<手机>`, `<QQ>`, and plain words for names."""


class Draw:
    """A uniform sample of a stream, in the order of the stream. Equal seeds and streams give equal samples."""

    def __init__(self, seed: str, size: int) -> None:
        self._random = random.Random(seed)
        self._size = size
        self._best: list[tuple[float, int, Any]] = []
        self.num_seen = 0

    def add(self, item: Any) -> None:
        self.num_seen += 1
        key = self._random.random()
        if len(self._best) < self._size:
            heapq.heappush(self._best, (key, self.num_seen, item))
        elif self._size and key > self._best[0][0]:
            heapq.heapreplace(self._best, (key, self.num_seen, item))

    def __iter__(self) -> Iterator[Any]:
        return (item for _, _, item in sorted(self._best, key=lambda entry: entry[1]))


class Masked(NamedTuple):
    """A masked value, with the text that it stands in."""

    id: str
    text: str
    start: int
    end: int


class Drawn(NamedTuple):
    rejects: dict[tuple[str, str], list[Reject]]
    """(stage, reason) → rejects."""
    lost: Counter[tuple[str, str]]
    """(stage, source) → how many were rejected, of all."""
    personal: dict[str, list[Masked]]
    """`<手机>` → places where that was put."""


class _Head(msgspec.Struct):
    """As much of a reject as decides what becomes of it: 0.5 µs to decode, a third of the whole."""

    reason: str
    source: str = ""


def draw(inputs: Inputs, seed: int, how_many: int) -> Drawn:
    """A few of the rejects of each reason, and of the masked values of each kind."""
    head, whole = msgspec.json.Decoder(_Head), msgspec.json.Decoder(Reject)
    reasons: dict[tuple[str, str], Draw] = {}
    kinds: dict[str, Draw] = {}
    lost: Counter[tuple[str, str]] = Counter()
    for label in STAGES:
        for line in _lines(inputs, label, "rejects"):
            found = head.decode(line)
            lost[label, found.source] += 1
            key = (label, found.reason)
            if key not in reasons:
                reasons[key] = Draw(f"{seed}:{label}:{found.reason}", how_many)
            reasons[key].add(line)
            if found.reason == "personal_data":
                _add_masks(kinds, line, seed, how_many)
    if inputs.config("curate").get("personal_data") == "mask":
        for pool in ("general", "medical"):
            for line in _lines(inputs, "curate", pool):
                if b'"personal_data"' in line:
                    _add_masks(kinds, line, seed, how_many)
    return Drawn(
        {key: [whole.decode(line) for line in drawn] for key, drawn in sorted(reasons.items())},
        lost,
        {mask: list(_masked(drawn, mask)) for mask, drawn in sorted(kinds.items())},
    )


def _lines(inputs: Inputs, label: str, name: str) -> Iterator[bytes]:
    path = inputs.folders[label] / f"{name}.jsonl" if label in inputs else None
    if path is not None and path.exists():
        with path.open("rb") as file:
            yield from file


def _add_masks(kinds: dict[str, Draw], line: bytes, seed: int, how_many: int) -> None:
    for mask in dict.fromkeys(MASK.findall(line.decode("utf-8", "replace"))):
        if mask not in kinds:
            kinds[mask] = Draw(f"{seed}:{mask}", how_many)
        kinds[mask].add(line)


def _masked(lines: Draw, mask: str) -> Iterator[Masked]:
    """The first place of the mask in each record."""
    for line in lines:
        outcome = msgspec.json.decode(line)
        record = outcome.get("record", outcome)
        text, _ = transcript(record)
        if (start := text.find(mask)) >= 0:
            yield Masked(outcome["id"], text, start, start + len(mask))
