"""Records → repaired and kept, or rejected: what can be told of a record without its neighbours.

Every repair and rule is a plain Python function, exact and slow (microseconds). Their gates, computed for all records of a shard at once,
say where they must look; most records are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce

import msgspec
import numpy as np
from numpy.typing import NDArray

from medchatzh.curate.benchmark import Benchmark
from medchatzh.curate.boilerplate import SUBSTANCE, trim
from medchatzh.curate.config import Config
from medchatzh.curate.duplicates import REASONS
from medchatzh.curate.features import Features, Mask, Signs, class_table, features
from medchatzh.curate.privacy import DEFAULT_KINDS, mask, mask_dialogue
from medchatzh.curate.privacy.gate import opened
from medchatzh.curate.repair import CLASSES, SIGNS, repair
from medchatzh.curate.rules import Case, PoolRules, Rule, Seen, chosen
from medchatzh.curate.rules.script import JUNK
from medchatzh.records import Dialogue, Reject, Turn

Verdict = tuple[str, "str | Seen"]
"""The reason of a Reject, and what was seen."""
NAMES_IDS = ("in_benchmark", *REASONS)
"""Reasons whose detail begins with another record's id."""


class Cleaner:
    """Repairs, rules and decontamination under one config. Call it with records; one outcome comes for each, in order."""

    def __init__(self, config: Config, benchmark: Benchmark, boilerplate: frozenset[str] = frozenset(), *, gated: bool = True) -> None:
        """`gated=False` looks at every record with everything: the same outcomes, slower (tests)."""
        self._config, self._benchmark, self._boilerplate, self._gated = config, benchmark, boilerplate, gated
        self._rules = chosen(config.rules)
        self._repairs = [tuple(map(_characters, SIGNS[name])) for name in config.repairs if name in SIGNS]
        groups = [(group, False) for rule in self._rules for group in rule.groups]
        self._signs = Signs(groups + [(group, True) for repair_groups in self._repairs for group in repair_groups])
        self._classes = class_table(JUNK, SUBSTANCE)
        self._settings: dict[tuple[str, str], PoolRules] = {}

    def __call__(self, records: Sequence[Dialogue]) -> list[Dialogue | Reject]:
        """Each record repaired and kept, or as a Reject (personal data masked) that says why."""
        if not records:
            return []
        found = self._features(records)
        made = list(records)
        changed = []
        for row in self._to_repair(found):
            made[row] = self._repaired(records[row])
            if made[row] is not records[row]:
                changed.append(row)
        same = np.setdiff1d(np.arange(len(records)), changed, assume_unique=True)
        verdicts = self._judge(made, same, found.take(same))
        if changed:  # a repair can change what the gates saw
            verdicts |= self._judge(made, np.array(changed), self._features([made[row] for row in changed]))
        verdicts |= self._leaks(made, np.setdiff1d(np.arange(len(records)), list(verdicts), assume_unique=True))
        outcomes: list[Dialogue | Reject] = list(made)
        rows = sorted(verdicts)
        for row, refused in zip(rows, rejects([(made[row], *verdicts[row]) for row in rows]), strict=True):
            outcomes[row] = refused
        return outcomes

    def settings(self, record: Dialogue) -> PoolRules:
        """The thresholds for a record: its source's, else its pool's."""
        key = (record.pool, record.source)
        if key not in self._settings:
            self._settings[key] = self._config.thresholds(*key)
        return self._settings[key]

    def case(self, record: Dialogue) -> Case:
        """What the rules see of a record."""
        answer = "\n".join(record.answers)
        return Case(record, record.question, answer, self.settings(record), self._config.personal_kinds, self._boilerplate)

    def _features(self, records: Sequence[Dialogue]) -> Features:
        return features(records, self._signs, self._classes, self._config.personal_kinds, self._config.repairs)

    def _to_repair(self, found: Features) -> Iterator[int]:
        """The records in one of whose turns all groups of signs of some repair stand."""
        if not self._gated:
            return iter(range(len(found.bits)))
        turns = np.zeros(len(found.turn_bits), bool)
        for groups in self._repairs:
            wanted = reduce(np.bitwise_or, (self._signs.bit(group, True) for group in groups))
            turns |= (found.turn_bits & wanted) == wanted
        rows = np.concatenate((found.owner[turns], np.flatnonzero(found.placed)))
        if self._config.personal_data == "mask" and "personal_data" in self._config.rules:
            rows = np.concatenate((rows, np.flatnonzero(found.personal)))
        if self._config.trim_boilerplate and self._boilerplate:
            rows = np.arange(len(found.bits))
        return iter(np.unique(rows).tolist())

    def _repaired(self, original: Dialogue) -> Dialogue:
        record = repair(original, self._config.repairs)
        if self._config.trim_boilerplate and self._boilerplate:
            turns = tuple(
                Turn(turn.role, trim(turn.content, self._boilerplate)) if turn.role == "assistant" else turn for turn in record.turns
            )
            if turns != record.turns:
                record = msgspec.structs.replace(record, turns=turns, edits=(*record.edits, "boilerplate"))
        if self._config.personal_data == "mask" and "personal_data" in self._config.rules:
            masked = mask_dialogue(record, self._config.personal_kinds)
            if masked is not record:
                record = msgspec.structs.replace(masked, edits=(*record.edits, "personal_data"))
        return record

    def _judge(self, records: Sequence[Dialogue], rows: NDArray[np.int64], found: Features) -> dict[int, Verdict]:
        """Row → what speaks against it, of the rows that some rule rejects. The first rule that fires names the reason."""
        groups: dict[PoolRules, list[int]] = {}
        for place, row in enumerate(rows.tolist()):
            groups.setdefault(self.settings(records[row]), []).append(place)
        parts = [(settings, np.array(places), found.take(np.array(places))) for settings, places in groups.items()]
        verdicts: dict[int, Verdict] = {}
        cases: dict[int, Case] = {}
        for rule in self._rules:
            suspects = np.zeros(len(rows), bool)
            for settings, places, part in parts:
                suspects[places] = self._gate(rule, part, settings)
            for row in rows[suspects].tolist():
                if row in verdicts:
                    continue
                if row not in cases:
                    cases[row] = self.case(records[row])
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

    def _leaks(self, records: Sequence[Dialogue], rows: NDArray[np.int64]) -> dict[int, Verdict]:
        """Row → the benchmark question that it gives away, of the rows that do."""
        if not self._benchmark or not len(rows):
            return {}
        if self._gated:
            rows = rows[self._benchmark.suspects([records[row] for row in rows])]
        matches = {row: self._benchmark.match(records[row]) for row in rows.tolist()}
        return {row: ("in_benchmark", str(match)) for row, match in matches.items() if match is not None}


def rejects(refused: Sequence[tuple[Dialogue, str, str | Seen]]) -> list[Reject]:
    """The Rejects of some records, for a reason each. Personal data is masked, of whatever kinds the rules let pass."""
    texts = [turn.content for record, *_ in refused for turn in record.turns]
    owner = [number for number, (record, *_) in enumerate(refused) for _ in record.turns]
    personal = set(np.array(owner, np.int64)[opened(texts, DEFAULT_KINDS)].tolist())
    return [_reject(record, reason, seen, may_hold=number in personal) for number, (record, reason, seen) in enumerate(refused)]


def _reject(record: Dialogue, reason: str, seen: str | Seen, *, may_hold: bool) -> Reject:
    masked = mask_dialogue(record) if may_hold else record
    detail = seen.detail if isinstance(seen, Seen) else seen
    return Reject(
        id=record.id,
        source=record.source,
        origin=record.origin,
        category=record.category,
        stage="curate",
        reason=reason,
        detail=mask(detail) if masked is not record and reason not in NAMES_IDS else detail,
        span=(seen.turn, seen.start, seen.end) if isinstance(seen, Seen) and masked is record else None,
        record=masked,
    )


def _characters(group: tuple[str, ...]) -> tuple[str, ...]:
    """A group of signs, names of classes replaced by their characters."""
    return tuple(sign for name in group for sign in (CLASSES.get(name) or (name,)))
