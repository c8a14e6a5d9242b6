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
from medchatzh.curate.config import Config
from medchatzh.curate.boilerplate import SUBSTANCE, trim
from medchatzh.curate.features import Features, Mask, Signs, class_table, features
from medchatzh.curate.privacy import mask, mask_dialogue
from medchatzh.curate.repair import CLASSES, SIGNS, repair
from medchatzh.curate.rules import Case, PoolRules, Rule, Seen, chosen
from medchatzh.curate.rules.script import JUNK
from medchatzh.records import Dialogue, Reject, Turn


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
        outcomes: list[Dialogue | Reject] = list(records)
        if not records:
            return outcomes
        found = self._features(records)
        changed = [(row, made) for row in self._to_repair(found) if (made := self._repaired(records[row])) is not records[row]]
        for row, made in changed:
            outcomes[row] = made
        rows = np.array([row for row, _ in changed], np.int64)
        same = np.setdiff1d(np.arange(len(records)), rows, assume_unique=True)
        self._judge(outcomes, same, found.take(same))
        if changed:  # a repair can change what the gates saw
            self._judge(outcomes, rows, self._features([made for _, made in changed]))
        self._decontaminate(outcomes)
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

    def _judge(self, outcomes: list[Dialogue | Reject], rows: NDArray[np.int64], found: Features) -> None:
        """Replace each of the rows that a rule rejects by its Reject. The first rule that fires names the reason."""
        alive = np.ones(len(rows), bool)
        cases: dict[int, Case] = {}
        keys = [(outcomes[row].pool, outcomes[row].source) for row in rows.tolist()]  # type: ignore[union-attr]
        groups: dict[PoolRules, list[int]] = {}
        for place, key in enumerate(keys):
            if key not in self._settings:
                self._settings[key] = self._config.thresholds(*key)
            groups.setdefault(self._settings[key], []).append(place)
        parts = [
            (settings, np.array(places), found.take(np.array(places)) if len(groups) > 1 else found) for settings, places in groups.items()
        ]
        for rule in self._rules:
            suspects = np.zeros(len(rows), bool)
            for settings, places, part in parts:
                suspects[places] = self._gate(rule, part, settings)
            for place in np.flatnonzero(suspects & alive).tolist():
                row = int(rows[place])
                record = outcomes[row]
                assert isinstance(record, Dialogue)
                if place not in cases:
                    cases[place] = self.case(record)
                if (seen := rule.find(cases[place])) is not None:
                    outcomes[row] = reject(record, rule.name, seen)
                    alive[place] = False

    def _gate(self, rule: Rule, found: Features, settings: PoolRules) -> Mask:
        opened = np.ones(len(found.bits), bool)
        if not self._gated:
            return opened
        if rule.signs is not None:
            opened &= found.has(rule.signs)
        if rule.gate is not None:
            opened &= rule.gate(found, settings)
        return opened

    def _decontaminate(self, outcomes: list[Dialogue | Reject]) -> None:
        if not self._benchmark:
            return
        rows = [row for row, outcome in enumerate(outcomes) if isinstance(outcome, Dialogue)]
        kept: list[Dialogue] = [outcomes[row] for row in rows]  # type: ignore[misc]
        suspects = self._benchmark.suspects(kept) if self._gated else np.ones(len(kept), bool)
        for place in np.flatnonzero(suspects).tolist():
            if (match := self._benchmark.match(kept[place])) is not None:
                outcomes[rows[place]] = reject(kept[place], "in_benchmark", str(match))


def reject(record: Dialogue, reason: str, seen: str | Seen) -> Reject:
    """The Reject of a record, personal data masked. Details of duplicates and of the benchmark are ids, and stay as they are."""
    detail = seen.detail if isinstance(seen, Seen) else seen
    masked = mask_dialogue(record)
    return Reject(
        id=record.id,
        source=record.source,
        origin=record.origin,
        category=record.category,
        stage="curate",
        reason=reason,
        detail=detail if reason in ("exact_duplicate", "near_duplicate", "same_question", "in_benchmark") else mask(detail),
        span=(seen.turn, seen.start, seen.end) if isinstance(seen, Seen) and masked is record else None,
        record=masked,
    )


def _characters(group: tuple[str, ...]) -> tuple[str, ...]:
    """A group of signs, names of classes replaced by their characters."""
    return tuple(sign for name in group for sign in (CLASSES.get(name) or (name,)))
