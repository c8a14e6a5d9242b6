"""What curation counts: by pool, source and reason, lengths before and after. Counts of shards add up to those of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from medchatzh.records import Dialogue, Reject
from medchatzh.shards import Facts

LENGTH_BINS = (0, 10, 20, 50, 100, 200, 400, 800, 1600)
"""Lower bounds of the answer-length histogram, in characters; the last bin is open."""


class Tally(Facts, kw_only=True):
    """Counts of some records. Keys are joined by tabs, since they are written as JSON."""

    read: dict[str, int] = msgspec.field(default_factory=dict)
    """pool, source → records."""
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    """pool, source, reason → records."""
    edits: dict[str, int] = msgspec.field(default_factory=dict)
    """Edit → kept records that have it."""
    before: dict[str, list[int]] = msgspec.field(default_factory=dict)
    """pool → histogram of the answers' lengths, of all records."""
    after: dict[str, list[int]] = msgspec.field(default_factory=dict)
    """The same, of those kept."""
    overlap: dict[str, int] = msgspec.field(default_factory=dict)
    """source, kind (exact, contained, near) → records that the benchmark knows."""
    personal: dict[str, int] = msgspec.field(default_factory=dict)
    """Kind → records dropped for it."""

    def reasons(self) -> dict[str, int]:
        """Reason → records dropped."""
        found: Counter[str] = Counter()
        for key, number in self.dropped.items():
            found[key.rpartition("\t")[2]] += number
        return dict(found)


def tally(records: Sequence[Dialogue], outcomes: Iterable[Dialogue | Reject]) -> Tally:
    """The counts of some records as read, and what became of each."""
    kept: list[Dialogue] = []
    rejects: list[tuple[Dialogue, Reject]] = []
    for record, outcome in zip(records, outcomes, strict=True):
        if isinstance(outcome, Reject):
            rejects.append((record, outcome))
        else:
            kept.append(outcome)
    overlap = Counter(f"{reject.source}\t{reject.detail.split(' ')[-1 if reject.detail.endswith('exact') else -2]}"
                      for _, reject in rejects if reject.reason == "in_benchmark")  # fmt: skip
    return Tally(
        num_in=len(records),
        read=Counter(f"{record.pool}\t{record.source}" for record in records),
        dropped=Counter(f"{record.pool}\t{record.source}\t{reject.reason}" for record, reject in rejects),
        edits=Counter(edit for record in kept if record.edits for edit in record.edits),
        before=_histograms(records),
        after=_histograms(kept),
        overlap=overlap,
        personal=Counter(kind for _, reject in rejects if reject.reason == "personal_data" for kind in reject.detail.split(",")),
    )


def total(parts: Iterable[Tally]) -> Tally:
    """The sum of some counts."""
    whole = Tally(num_in=0)
    for part in parts:
        whole.num_in += part.num_in
        for name in ("read", "dropped", "edits", "overlap", "personal"):
            setattr(whole, name, Counter(getattr(whole, name)) + Counter(getattr(part, name)))
        for name in ("before", "after"):
            sums = getattr(whole, name)
            for pool, histogram in getattr(part, name).items():
                sums[pool] = [a + b for a, b in zip(sums.get(pool, [0] * len(histogram)), histogram, strict=True)]
    return whole


def without(whole: Tally, dropped: Sequence[tuple[Dialogue, str]]) -> Tally:
    """The counts of a shard after some of its kept records were dropped too, each for a reason."""
    lost = _histograms([record for record, _ in dropped])
    edits = Counter(edit for record, _ in dropped for edit in record.edits)
    return Tally(
        num_in=whole.num_in,
        read=whole.read,
        dropped=Counter(whole.dropped) + Counter(f"{record.pool}\t{record.source}\t{reason}" for record, reason in dropped),
        edits=Counter(whole.edits) - edits,
        before=whole.before,
        after={
            pool: [a - b for a, b in zip(histogram, lost.get(pool, [0] * len(histogram)), strict=True)]
            for pool, histogram in whole.after.items()
        },
        overlap=whole.overlap,
        personal=whole.personal,
    )


def facts(whole: Tally) -> dict[str, Any]:
    """The counts as the manifest tells them."""
    groups: dict[str, dict[str, dict[str, Any]]] = {"by_pool": {}, "by_source": {}}
    for key, number in whole.read.items():
        for group, name in zip(groups.values(), key.split("\t"), strict=True):
            counts = group.setdefault(name, {"num_in": 0, "num_out": 0, "dropped": Counter()})
            counts["num_in"] += number
            counts["num_out"] += number
    for key, number in whole.dropped.items():
        *names, reason = key.split("\t")
        for group, name in zip(groups.values(), names, strict=True):
            group[name]["num_out"] -= number
            group[name]["dropped"][reason] += number
    overlap: dict[str, dict[str, int]] = {}
    for key, number in sorted(whole.overlap.items()):
        source, kind = key.split("\t")
        overlap.setdefault(source, {})[kind] = number
    return {
        **{
            group: {name: {**counts, "dropped": dict(sorted(counts["dropped"].items()))} for name, counts in sorted(table.items())}
            for group, table in groups.items()
        },
        "edits": dict(sorted(whole.edits.items())),
        "lengths": {
            pool: {"before": before, "after": whole.after.get(pool, [0] * len(before)), "bins": list(LENGTH_BINS)}
            for pool, before in sorted(whole.before.items())
        },
        "benchmark_overlap": overlap,
        "personal_data": dict(sorted(whole.personal.items())),
    }


def _histograms(records: Sequence[Dialogue]) -> dict[str, list[int]]:
    lengths: dict[str, list[int]] = {}
    for record in records:
        num_chars = 0
        for turn in record.turns:  # a loop, for it runs over every record: half the time of `sum` and a generator
            if turn.role == "assistant":
                num_chars += len(turn.content)
        lengths.setdefault(record.pool, []).append(num_chars)
    bins = np.array([*LENGTH_BINS, np.iinfo(np.int64).max])
    return {pool: np.histogram(values, bins)[0].tolist() for pool, values in lengths.items()}
