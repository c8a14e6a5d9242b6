"""Curation: repair each record, drop it with a reason or keep it, drop duplicates and what the benchmark knows.

Order: repairs, then the rules (the first that fires names the reason), then exact duplicates, then decontamination.
Every record comes out exactly once, as a `Dialogue` or as a `Reject`.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import msgspec

from medchatzh.curate.benchmark import Benchmark, Decontamination
from medchatzh.curate.duplicates import Duplicates
from medchatzh.curate.privacy import mask, mask_dialogue
from medchatzh.curate.repair import REPAIRS, repair
from medchatzh.curate.rules import Case, PoolRules, all_rules, check_names, chosen
from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Question, Reject, read
from medchatzh.run import Context, Progress, Result

VERSION = 2
LENGTH_BINS = (0, 10, 20, 50, 100, 200, 400, 800, 1600)
"""Lower bounds of the answer-length histogram, in characters; the last bin is open."""


class Config(Settings, frozen=True):
    """What curation does; every threshold of a rule stands in `PoolRules`, once for each pool."""

    general: PoolRules = PoolRules(min_answer_chars=200, echo_length=0.8, min_hanzi_share=0.05, min_advertising_signs=4)
    """The paper, data section: general answers of fewer than 200 tokens are discarded. Characters here, as no tokenizer exists yet."""
    medical: PoolRules = PoolRules()
    """Low bounds: about 90 % of genuine doctors' answers are shorter than 200 characters."""
    rules: tuple[str, ...] = tuple(rule.name for rule in all_rules())
    """Rules in force. They speak in a fixed order, whatever the order here."""
    repairs: tuple[str, ...] = tuple(REPAIRS)
    """Repairs in force, in a fixed order too."""
    personal_data: Literal["drop", "mask"] = "drop"
    """The paper drops records with personal data. `mask` keeps them, each value replaced by its kind (`<手机>`)."""
    duplicates: bool = True
    """Drop records that equal an earlier one but for width, case, white space and punctuation."""
    decontamination: Decontamination = Decontamination()

    def __post_init__(self) -> None:
        chosen(self.rules)
        check_names("repairs", self.repairs, tuple(REPAIRS))


def curate_records(records: Iterable[Dialogue], questions: Iterable[Question], config: Config) -> Iterator[Dialogue | Reject]:
    """Every record once, in order: repaired and kept, or as a Reject (personal data masked) that says why."""
    rules = chosen(config.rules)
    duplicates = Duplicates()
    benchmark = Benchmark(questions, config.decontamination)
    for original in records:
        record = repair(original, config.repairs)
        if config.personal_data == "mask" and "personal_data" in config.rules and (masked := mask_dialogue(record)) is not record:
            record = msgspec.structs.replace(masked, edits=(*record.edits, "personal_data"))
        case = Case(record, record.question, "\n".join(record.answers), getattr(config, record.pool))
        for rule in rules:
            if (detail := rule.find(case)) is not None:
                yield _reject(record, rule.name, detail)
                break
        else:
            if config.duplicates and (keeper := duplicates.keeper(record)) is not None:
                yield _reject(record, "exact_duplicate", keeper)
            elif (known := benchmark.match(record)) is not None:
                yield _reject(record, "in_benchmark", known)
            else:
                yield record


def _reject(record: Dialogue, reason: str, detail: str) -> Reject:
    return Reject(
        id=record.id,
        source=record.source,
        origin=record.origin,
        category=record.category,
        stage="curate",
        reason=reason,
        detail=detail if reason in ("exact_duplicate", "in_benchmark") else mask(detail),
        record=mask_dialogue(record),
    )


class _Tally:
    """Counts by pool and by source, and answer lengths before and after."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, dict[str, Any]]] = {"by_pool": {}, "by_source": {}}
        self._lengths: dict[str, dict[str, list[int]]] = {}
        self._edits: Counter[str] = Counter()
        self._overlap: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.num_in = self.num_out = 0

    def add(self, outcome: Dialogue | Reject) -> None:
        record: Dialogue = outcome.record if isinstance(outcome, Reject) else outcome
        reason = outcome.reason if isinstance(outcome, Reject) else ""
        self.num_in += 1
        self.num_out += not reason
        self.dropped.update([reason] if reason else [])
        for group, key in (("by_pool", record.pool), ("by_source", record.source)):
            counts = self._groups[group].setdefault(key, {"num_in": 0, "num_out": 0, "dropped": Counter()})
            counts["num_in"] += 1
            counts["num_out"] += not reason
            counts["dropped"].update([reason] if reason else [])
        if reason == "in_benchmark":
            self._overlap[record.source] += 1
        histogram = self._lengths.setdefault(record.pool, {"before": [0] * len(LENGTH_BINS), "after": [0] * len(LENGTH_BINS)})
        place = bisect.bisect_right(LENGTH_BINS, sum(map(len, record.answers))) - 1
        histogram["before"][place] += 1
        if not reason:
            histogram["after"][place] += 1
            self._edits.update(record.edits)

    def facts(self) -> dict[str, Any]:
        return {
            **{
                group: {key: {**counts, "dropped": dict(sorted(counts["dropped"].items()))} for key, counts in sorted(table.items())}
                for group, table in self._groups.items()
            },
            "edits": dict(sorted(self._edits.items())),
            "lengths": {pool: {**histogram, "bins": list(LENGTH_BINS)} for pool, histogram in sorted(self._lengths.items())},
            "benchmark_overlap": dict(sorted(self._overlap.items())),
        }


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """`ingest/{dialogues,questions}.jsonl` → `general.jsonl`, `medical.jsonl` (kept, repaired) and `rejects.jsonl`."""
    tally = _Tally()
    encode = msgspec.json.Encoder().encode
    questions = inputs["ingest"] / "questions.jsonl"
    records = read(inputs["ingest"] / "dialogues.jsonl", Dialogue)
    with ExitStack() as stack:
        files = {name: stack.enter_context((out / f"{name}.jsonl").open("wb")) for name in ("general", "medical", "rejects")}
        progress = stack.enter_context(Progress("curate", None, "records"))
        for outcome in curate_records(records, read(questions, Question) if questions.exists() else (), config):
            tally.add(outcome)
            name = "rejects" if isinstance(outcome, Reject) else outcome.pool
            files[name].write(encode(outcome) + b"\n")
            progress.add()
    return Result(num_in=tally.num_in, num_out=tally.num_out, dropped=dict(tally.dropped), facts=tally.facts())
