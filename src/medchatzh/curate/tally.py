"""What curation counts: by pool, source and reason, lengths before and after. Counts of shards add up to those of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from medchatzh.curate.batch import Batch
from medchatzh.curate.clean import Cleaned
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


def tally(cleaned: Cleaned, rejects: Sequence[Reject]) -> Tally:
    """The counts of a cleaned batch."""
    batch = cleaned.batch
    chars = np.array(cleaned.features.answer_chars)
    before = _histograms(batch, np.arange(len(batch)), chars)
    chars[cleaned.rows] = [sum(map(len, record.answers)) for record in map(cleaned.mended.record, range(len(cleaned.rows)))]
    names = ["\t".join(group) for group in batch.groups]
    refused = Counter((names[batch.group[row]], cleaned.verdicts[row][0]) for row in cleaned.verdicts)
    kept = cleaned.kept()
    with_edits = np.union1d(np.flatnonzero(batch.has_edits), cleaned.rows)
    edited = map(cleaned.record, np.intersect1d(kept, with_edits).tolist())
    leaks = (reject for reject in rejects if reject.reason == "in_benchmark")
    return Tally(
        num_in=len(batch),
        read={names[group]: int(count) for group, count in enumerate(np.bincount(batch.group, minlength=len(names)))},
        dropped={f"{name}\t{reason}": count for (name, reason), count in refused.items()},
        edits=Counter(edit for record in edited for edit in record.edits),
        before=before,
        after=_histograms(batch, kept, chars),
        overlap=Counter(f"{leak.source}\t{leak.detail.split(' ')[-1 if leak.detail.endswith('exact') else -2]}" for leak in leaks),
        personal=Counter(kind for reject in rejects if reject.reason == "personal_data" for kind in reject.detail.split(",")),
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
    lost: dict[str, list[int]] = {}
    for pool in {record.pool for record, _ in dropped}:
        lost[pool] = _histogram(np.array([sum(map(len, record.answers)) for record, _ in dropped if record.pool == pool]))
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


def _histograms(batch: Batch, rows: NDArray[np.int64], chars: NDArray[np.int64]) -> dict[str, list[int]]:
    """pool → histogram of the answers' lengths of some rows, given those of all."""
    pools = np.array([pool for pool, _ in batch.groups] or [""])[batch.group[rows]]
    return {str(pool): _histogram(chars[rows[pools == pool]]) for pool in np.unique(pools)}


def _histogram(chars: NDArray[np.int64]) -> list[int]:
    return np.histogram(chars, np.array([*LENGTH_BINS, np.iinfo(np.int64).max]))[0].tolist()
