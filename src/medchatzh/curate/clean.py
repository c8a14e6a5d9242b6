"""Records → repaired and kept, or rejected: what can be told of a record without its neighbours.

Every repair and rule is a plain Python function, exact and slow (microseconds). Their gates, computed for all records of a shard at once,
say where they must look; most records are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from medchatzh.curate.batch import Batch
from medchatzh.curate.benchmark import Benchmark
from medchatzh.curate.boilerplate import SUBSTANCE
from medchatzh.curate.config import Config, Duplicates
from medchatzh.curate.duplicates import NUM_KEYS, REASONS, Keys, keys
from medchatzh.curate.features import Features, Mask, Signs, class_table, features
from medchatzh.curate.mend import mend
from medchatzh.curate.privacy import DEFAULT_KINDS, MASKS, in_pool, mask_dialogue
from medchatzh.curate.privacy.gate import opened
from medchatzh.curate.repair import CLASSES, SIGNS
from medchatzh.curate.rules import Case, PoolRules, Rule, Seen, chosen
from medchatzh.curate.rules.script import JUNK
from medchatzh.records import Dialogue, Reject

_encoder = msgspec.json.Encoder()
Verdict = tuple[str, "str | Seen"]
"""The reason of a Reject, and what was seen."""
WITHHELD = "what the rule saw is not quoted: the record holds personal data"


class Cleaner:
    """Repairs, rules and decontamination under one config. Call it with a batch."""

    def __init__(self, config: Config, benchmark: Benchmark, boilerplate: frozenset[str] = frozenset(), *, gated: bool = True) -> None:
        """`gated=False` looks at every record with everything: the same outcomes, slower (tests)."""
        self._config, self._benchmark, self._boilerplate, self._gated = config, benchmark, boilerplate, gated
        self._rules = chosen(config.rules)
        self._repairs = [tuple(map(_characters, SIGNS[name])) for name in config.repairs if name in SIGNS]
        groups = [(group, False) for rule in self._rules for group in rule.groups]
        self._signs = Signs(groups + [(group, True) for repair_groups in self._repairs for group in repair_groups])
        self._classes = class_table(JUNK, SUBSTANCE)
        self._settings: dict[tuple[str, str], PoolRules] = {}

    def __call__(self, batch: Batch) -> Cleaned:
        """What becomes of each record: kept as it is, repaired and kept, or rejected."""
        found = self._features(batch)
        changed: dict[int, Dialogue] = {}
        for row in self._to_repair(found):
            original = batch.record(row)
            if (made := mend(original, self._config, self._boilerplate)) is not original:
                changed[row] = made
        rows = np.array(sorted(changed), np.int64)
        same = np.setdiff1d(np.arange(len(batch)), rows, assume_unique=True)
        mended = Batch([changed[row] for row in rows.tolist()])  # a repair can change what the gates saw
        verdicts: dict[int, Verdict] = {}
        for part, places, own, seen in (
            (batch, same, same, found.take(same)),
            (mended, rows, np.arange(len(rows)), self._features(mended)),
        ):
            against = self._judge(part, own, seen)
            left = np.setdiff1d(own, list(against), assume_unique=True)
            against |= self._leaks(part, left)
            row_of = dict(zip(own.tolist(), places.tolist(), strict=True))
            verdicts |= {row_of[row]: verdict for row, verdict in against.items()}
        return Cleaned(batch, mended, rows, found, verdicts, self._config.personal_kinds)

    def settings(self, pool: str, source: str) -> PoolRules:
        """The thresholds for a record: its source's, else its pool's."""
        if (pool, source) not in self._settings:
            self._settings[pool, source] = self._config.thresholds(pool, source)
        return self._settings[pool, source]

    def case(self, record: Dialogue) -> Case:
        """What the rules see of a record."""
        settings = self.settings(record.pool, record.source)
        return Case.of(record, settings, personal_kinds=self._config.kinds(record.pool), boilerplate=self._boilerplate)

    def _features(self, batch: Batch) -> Features:
        return features(batch, self._signs, self._classes, self._config.personal_kinds, self._config.repairs)

    def _to_repair(self, found: Features) -> Iterator[int]:
        """The records in one of whose turns all groups of signs of some repair stand."""
        if not self._gated:
            return iter(range(len(found.bits)))
        turns = np.zeros(len(found.turn_bits), bool)
        for groups in self._repairs:
            wanted = reduce(np.bitwise_or, (self._signs.bit(group, True) for group in groups))
            turns |= (found.turn_bits & wanted) == wanted
        rows = np.concatenate((found.owner[turns], np.flatnonzero(found.placed)))
        if self._config.masks:
            rows = np.concatenate((rows, np.flatnonzero(found.personal)))
        if self._config.trim_boilerplate:
            rows = np.arange(len(found.bits))
        return iter(np.unique(rows).tolist())

    def _judge(self, batch: Batch, rows: NDArray[np.int64], found: Features) -> dict[int, Verdict]:
        """Row → what speaks against it, of the rows that some rule rejects. The first rule that fires names the reason."""
        settings = [self.settings(*group) for group in batch.groups]
        group = batch.group[rows]
        parts = [
            (settings[number], places, found.take(places)) for number in np.unique(group) for places in (np.flatnonzero(group == number),)
        ]
        verdicts: dict[int, Verdict] = {}
        cases: dict[int, Case] = {}
        for rule in self._rules:
            suspects = np.zeros(len(rows), bool)
            for thresholds, places, part in parts:
                suspects[places] = self._gate(rule, part, thresholds)
            for row in rows[suspects].tolist():
                if row in verdicts:
                    continue
                if row not in cases:
                    cases[row] = self.case(batch.record(row))
                if (seen := rule.find(cases[row])) is not None:
                    verdicts[row] = rule.name, seen
        return verdicts

    def _gate(self, rule: Rule, found: Features, settings: PoolRules) -> Mask:
        opened = np.ones(len(found.bits), bool)
        if not self._gated:
            return opened
        if rule.signs is not None:
            opened &= found.has(rule.signs)
        if rule.gate is not None:
            opened &= rule.gate(found, settings)
        return opened

    def _leaks(self, batch: Batch, rows: NDArray[np.int64]) -> dict[int, Verdict]:
        """Row → the benchmark question that it gives away, of the rows that do."""
        if not self._benchmark or not len(rows):
            return {}
        if self._gated:
            rows = rows[self._benchmark.suspects(batch)[rows]]
        matches = {row: self._benchmark.match(batch.record(row)) for row in rows.tolist()}
        return {row: ("in_benchmark", str(match)) for row, match in matches.items() if match is not None}


class Cleaned(NamedTuple):
    """What became of a batch."""

    batch: Batch
    mended: Batch
    """The repaired records ..."""
    rows: NDArray[np.int64]
    """... and their rows in the batch, ascending."""
    features: Features
    """Of the batch, before repairs."""
    verdicts: dict[int, Verdict]
    """Row → why it is rejected."""
    personal_kinds: tuple[str, ...]
    """What the rejects must not show."""

    def record(self, row: int) -> Dialogue:
        """A record as it is after repairs."""
        place = int(np.searchsorted(self.rows, row))
        return self.mended.record(place) if place < len(self.rows) and self.rows[place] == row else self.batch.record(row)

    def parts(self, rows: NDArray[np.int64]) -> Iterator[tuple[Batch, NDArray[np.int64], NDArray[np.int64]]]:
        """(batch, rows there, places in `rows`): where some of the records, ascending, are as they are after repairs."""
        is_mended = np.isin(rows, self.rows, assume_unique=True)
        yield self.batch, rows[~is_mended], np.flatnonzero(~is_mended)
        yield self.mended, np.searchsorted(self.rows, rows[is_mended]), np.flatnonzero(is_mended)

    def kept(self) -> NDArray[np.int64]:
        """Rows of the records that are kept."""
        return np.setdiff1d(np.arange(len(self.batch)), list(self.verdicts), assume_unique=True)

    def keys(self, rows: NDArray[np.int64], settings: Duplicates) -> Keys:
        """What duplicates of some records, ascending, are found by."""
        table = np.empty((NUM_KEYS, len(rows)), np.uint64)
        for batch, own, places in self.parts(rows):
            table[:, places] = keys(batch, own, settings)
        return table

    def lines(self, rows: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
        """(JSON lines of some records, ascending, where each begins): those that nothing was mended in as they were read."""
        batch, data = self.batch, self.batch.data
        if data is None:
            encoded = [_encode(self.record(row)) for row in rows.tolist()]
            return b"".join(encoded), np.cumsum([0, *map(len, encoded)])
        lengths = np.diff(batch.lines)[rows]
        is_mended = np.isin(rows, self.rows, assume_unique=True)
        mended = {
            place: _encode(self.record(row))
            for place, row in zip(np.flatnonzero(is_mended).tolist(), rows[is_mended].tolist(), strict=True)
        }
        lengths[list(mended)] = list(map(len, mended.values()))
        cuts = np.flatnonzero((np.diff(rows, prepend=-2) != 1) | is_mended | np.roll(is_mended, 1)) if len(rows) else rows
        view = memoryview(data)
        pieces = [
            mended[first] if first in mended else view[batch.lines[rows[first]] : batch.lines[rows[last - 1] + 1]]
            for first, last in pairwise([*cuts.tolist(), len(rows)])
        ]
        return b"".join(pieces), np.concatenate(([0], np.cumsum(lengths)))

    def rejects(self) -> list[Reject]:
        return rejects([(self.record(row), *self.verdicts[row]) for row in sorted(self.verdicts)], self.personal_kinds)

    def outcomes(self) -> list[Dialogue | Reject]:
        """Every record once, in order."""
        refused = iter(self.rejects())
        return [next(refused) if row in self.verdicts else self.record(row) for row in range(len(self.batch))]


def rejects(refused: Sequence[tuple[Dialogue, str, str | Seen]], personal_kinds: tuple[str, ...] = ()) -> list[Reject]:
    """The Rejects of some records, for a reason each. Personal data is masked, of the usual kinds and of those that the rules look for."""
    kinds = tuple(dict.fromkeys((*DEFAULT_KINDS, *personal_kinds)))
    texts = [turn.content for record, *_ in refused for turn in record.turns]
    owner = [number for number, (record, *_) in enumerate(refused) for _ in record.turns]
    personal = set(np.array(owner, np.int64)[opened(texts, kinds)].tolist())
    masked = [
        mask_dialogue(record, in_pool(kinds, record.pool)) if number in personal else record for number, (record, *_) in enumerate(refused)
    ]
    return [
        _reject(shown, reason, seen, is_masked=shown is not record) for (record, reason, seen), shown in zip(refused, masked, strict=True)
    ]


def _reject(record: Dialogue, reason: str, seen: str | Seen, *, is_masked: bool) -> Reject:
    detail = seen.detail if isinstance(seen, Seen) else seen
    if is_masked and reason not in ("personal_data", "in_benchmark", *REASONS):
        detail = WITHHELD  # a cut quotation may hold half a number, which no pattern knows
    span = (seen.turn, seen.start, seen.end) if isinstance(seen, Seen) and not is_masked else None
    if isinstance(seen, Seen) and reason == "personal_data":
        span = _first_mask(record, seen)
    return Reject.of(record, "curate", reason, detail, span=span, record=record)


def _first_mask(record: Dialogue, seen: Seen) -> tuple[int, int, int] | None:
    """Where the first value that `personal_data` saw stands in the masked record."""
    mask = MASKS[seen.detail.partition(",")[0]]
    start = record.turns[seen.turn].content.find(mask)
    return None if start < 0 else (seen.turn, start, start + len(mask))


def _encode(record: Dialogue) -> bytes:
    return _encoder.encode(record) + b"\n"


def _characters(group: tuple[str, ...]) -> tuple[str, ...]:
    """A group of signs, names of classes replaced by their characters."""
    return tuple(sign for name in group for sign in (CLASSES.get(name) or (name,)))
