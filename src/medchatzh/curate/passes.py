"""The passes of curation over shards of `dialogues.jsonl`. A shard is a byte range; what a pass leaves of it lies in its own folder."""

from __future__ import annotations

import itertools
import mmap
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from medchatzh.curate import boilerplate, duplicates
from medchatzh.curate.batch import Batch
from medchatzh.curate.benchmark import Benchmark
from medchatzh.curate.clean import Cleaner, rejects
from medchatzh.curate.config import Config
from medchatzh.curate.privacy import DEFAULT_KINDS, mask_dialogue
from medchatzh.curate.tally import Tally, tally, total, without
from medchatzh.records import Dialogue, Question, read, write
from medchatzh.run import SCRATCH, Context, read_manifest, write_atomically
from medchatzh.shards import Facts, Spans, byte_ranges, shard, work

SHARD_BYTES = 7 << 20
"""About 20,000 records: large enough that a shard's fixed cost is nothing, small enough for 400 MB of memory a worker."""
SURVEY_SHARDS = 8
"""Shards surveyed for recurring sentences, evenly spaced: some 160,000 records tell what recurs."""
NUM_PAIRS = 50
"""Near-duplicate pairs kept side by side for the report, drawn by hash."""

_KEPT, _LINES, _POOLS, _KEYS, _REJECTS = "kept.jsonl", "lines.npy", "pools.npy", "keys", "rejects.jsonl"
_POOL_NAMES = ("general", "medical")
_encoder = msgspec.json.Encoder()
_dialogues = msgspec.json.Decoder(Dialogue)


class Range(msgspec.Struct, frozen=True):
    """Bytes start … end of a file of JSON lines."""

    path: Path
    start: int
    end: int

    def batch(self) -> Batch:
        """Its records. ValueError names the byte at which one is none."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.end - self.start)
        try:
            return Batch.of_lines(data)
        except msgspec.DecodeError:
            place = self.start
            for line in data.splitlines(keepends=True):
                try:
                    if line.strip():
                        _dialogues.decode(line)
                except msgspec.DecodeError as error:
                    raise ValueError(f"{self.path}: byte {place}: not a Dialogue: {error}") from None
                place += len(line)
            raise


def ranges(path: Path) -> list[Range]:
    """The shards of a file. ValueError where it does not exist."""
    if not path.exists():
        raise ValueError(f"{path}: no such file; it should hold Dialogue records as JSON lines")
    return [Range(path, start, end) for start, end in byte_ranges(path, SHARD_BYTES)]


# ---- survey


class Sentences(Facts, kw_only=True):
    """Clauses of a shard's answers, see `boilerplate.survey`."""

    counts: dict[str, int]


def survey(path: Path, config: Config, out: Path, context: Context) -> list[tuple[str, int]]:
    """(sentence, count) of the recurring courtesy of a sample of the records, the most frequent first; none where nothing asks for it."""
    if "boilerplate" not in config.rules and not config.trim_boilerplate:
        return []
    shards = ranges(path)
    sample = shards[:: max(1, len(shards) // SURVEY_SHARDS)][:SURVEY_SHARDS]
    parts = work(_survey, sample, out, context, label="survey", unit="records", kind=Sentences)
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    found = boilerplate.find(counts, counts[""])
    return sorted(((sentence, counts[sentence]) for sentence in found), key=lambda pair: (-pair[1], pair[0]))


def _survey(job: Range, folder: Path) -> Sentences:
    batch = job.batch()
    return Sentences(num_in=len(batch), counts=boilerplate.survey(map(batch.record, range(len(batch)))))


# ---- clean


class Cleaning(msgspec.Struct, frozen=True):
    """A shard to clean."""

    range: Range
    questions: Path
    boilerplate: frozenset[str]
    config: Config


def clean(path: Path, questions: Path, sentences: Sequence[tuple[str, int]], config: Config, out: Path, context: Context) -> list[Tally]:
    """Repair, judge and decontaminate every record; leaves kept records, rejects and keys of each shard in its folder."""
    known = frozenset(sentence for sentence, _ in sentences)
    jobs = [Cleaning(one, questions, known, config) for one in ranges(path)]
    return work(_clean, jobs, out, context, label="clean", unit="records", kind=Tally, total=_num_records(path))


def _num_records(path: Path) -> int | None:
    """How many records a file of ingest holds, for the time left; None where its manifest does not tell."""
    try:
        found = read_manifest(path.parent).facts.get("num_dialogues")
    except ValueError:
        return None
    return found if isinstance(found, int) else None


def _clean(job: Cleaning, folder: Path) -> Tally:
    batch = job.range.batch()
    cleaned = _cleaner(job.questions, job.boilerplate, _encoder.encode(job.config))(batch)
    refused = cleaned.rejects()
    rows = cleaned.kept()
    lines, starts = cleaned.lines(rows)
    (folder / _KEPT).write_bytes(lines)
    np.save(folder / _LINES, starts)
    np.save(folder / _POOLS, np.array([_POOL_NAMES.index(pool) for pool, _ in batch.groups] or [0], np.uint8)[batch.group[rows]])
    cleaned.keys(rows, job.config.duplicates).tofile(folder / _KEYS)
    (folder / _REJECTS).write_bytes(_encoder.encode_lines(refused))
    return tally(cleaned, refused)


@lru_cache(maxsize=1)
def _cleaner(questions: Path, known: frozenset[str], encoded: bytes) -> Cleaner:
    """One a process: the benchmark's index is made once."""
    config = msgspec.json.decode(encoded, type=Config)
    found = read(questions, Question) if questions.exists() else ()
    return Cleaner(config, Benchmark(found, config.decontamination), known)


# ---- duplicates


class Drop(NamedTuple):
    """A duplicate: its place in the shard's kept records, and what its Reject says."""

    place: int
    reason: str
    detail: str


class Shingling(msgspec.Struct, frozen=True):
    """Kept records of a shard, by place, whose shingles are wanted."""

    folder: Path
    places: list[int]


def find_duplicates(num_shards: int, config: Config, out: Path, context: Context) -> None:
    """Write who is a duplicate of whom, a file a shard, and `near_pairs.jsonl`: pairs to look at."""
    done = _drops(out, num_shards)
    if done.exists():
        return
    done.parent.mkdir(exist_ok=True)
    folders = [shard(out, "clean", number) for number in range(num_shards)]
    sizes = [(folder / _KEYS).stat().st_size // (8 * duplicates.NUM_KEYS) for folder in folders]
    starts = np.cumsum([0, *sizes])

    def column(number: int) -> NDArray[np.uint64]:
        parts = (
            np.fromfile(folder / _KEYS, np.uint64, size, offset=8 * number * size) for folder, size in zip(folders, sizes, strict=True)
        )
        return np.concatenate([np.empty(0, np.uint64), *parts])

    def verify(rows: NDArray[np.int64]) -> duplicates.Shingles:
        cuts = np.searchsorted(rows, starts)
        jobs = [
            Shingling(folder, (rows[cuts[number] : cuts[number + 1]] - starts[number]).tolist()) for number, folder in enumerate(folders)
        ]
        near = out / SCRATCH / "near"
        work(_shingle, jobs, near, context, label="near", unit="records", kind=Facts, merge=("hashes", "lengths"), total=len(rows))
        lengths = np.fromfile(near / "lengths", np.int64)
        if not lengths.any():
            return np.empty(0, np.uint64), np.zeros(len(lengths) + 1, np.int64)
        with (near / "hashes").open("rb") as file:
            hashes = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint64)
        return hashes, np.concatenate(([0], np.cumsum(lengths)))

    drops = duplicates.find(column, int(starts[-1]), config.duplicates, verify)
    ids: dict[int, str] = {}
    for number, keepers in _by_shard(np.unique(drops.keepers), starts):
        named = _picked(folders[number], (keepers - starts[number]).tolist())
        ids |= {row: record.id for row, record in zip(keepers.tolist(), named, strict=True)}
    _write_pairs(drops, folders, starts, config, out)
    bounds = np.searchsorted(drops.rows, starts)
    for number in range(num_shards):
        part = drops.take(slice(bounds[number], bounds[number + 1]))
        told = [
            Drop(row - int(starts[number]), reason, duplicates.detail(reason, ids[keeper], similarity))
            for row, reason, keeper, similarity in part.each()
        ]
        write_atomically(_drops(out, number), _encoder.encode(told))
    write_atomically(done, b"[]")


def _drops(out: Path, number: int) -> Path:
    return out / SCRATCH / "drops" / f"{number:06d}.json"


def _shingle(job: Shingling, folder: Path) -> Facts:
    records = _picked(job.folder, job.places)
    hashes, starts = duplicates.shingles(records)
    hashes.tofile(folder / "hashes")
    np.diff(starts).tofile(folder / "lengths")
    return Facts(num_in=len(records))


def _picked(folder: Path, places: Sequence[int]) -> list[Dialogue]:
    """The kept records of a cleaned shard at some places."""
    if not places:
        return []
    starts = np.load(folder / _LINES, mmap_mode="r")
    with (folder / _KEPT).open("rb") as file:
        return [_dialogues.decode(os.pread(file.fileno(), int(starts[place + 1] - starts[place]), int(starts[place]))) for place in places]


def _by_shard(rows: NDArray[np.int64], starts: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(shard, its rows) of some sorted rows."""
    cuts = np.searchsorted(rows, starts)
    for number, (first, last) in enumerate(itertools.pairwise(cuts)):
        if first < last:
            yield number, rows[first:last]


class Pair(msgspec.Struct):
    """A near duplicate and its keeper."""

    similarity: float
    dropped: Dialogue
    keeper: Dialogue


def _write_pairs(drops: duplicates.Drops, folders: Sequence[Path], starts: NDArray[np.int64], config: Config, out: Path) -> None:
    near = np.flatnonzero(drops.reasons == duplicates.REASONS.index("near_duplicate"))
    drawn = sorted(near.tolist(), key=lambda place: blake2b(b"%d" % drops.rows[place], digest_size=8).digest())[:NUM_PAIRS]
    wanted = np.unique(np.concatenate((drops.rows[drawn], drops.keepers[drawn])))
    records: dict[int, Dialogue] = {}
    for number, rows in _by_shard(wanted, starts):
        records |= dict(zip(rows.tolist(), _picked(folders[number], (rows - starts[number]).tolist()), strict=True))
    kinds = tuple(dict.fromkeys((*DEFAULT_KINDS, *config.personal_kinds)))
    pairs = (
        Pair(
            round(float(drops.similarities[place]), 4),
            *(mask_dialogue(records[int(of[place])], kinds) for of in (drops.rows, drops.keepers)),
        )
        for place in sorted(drawn)
    )
    write(out / "near_pairs.jsonl", pairs)


# ---- write


class Writing(msgspec.Struct, frozen=True):
    """A cleaned shard to write without its duplicates."""

    folder: Path
    drops: Path
    tally: Tally
    personal_kinds: tuple[str, ...]


def write_out(cleaned: Sequence[Tally], config: Config, out: Path, context: Context) -> Tally:
    """The output files, and the counts of all."""
    jobs = [Writing(shard(out, "clean", number), _drops(out, number), one, config.personal_kinds) for number, one in enumerate(cleaned)]
    names = ("general.jsonl", "medical.jsonl", _REJECTS)
    num_records = sum(one.num_in for one in cleaned)
    return total(work(_write, jobs, out, context, label="write", unit="records", kind=Tally, merge=names, total=num_records))


def _write(job: Writing, folder: Path) -> Tally:
    starts, pools = np.load(job.folder / _LINES), np.load(job.folder / _POOLS)
    drops = msgspec.json.decode(job.drops.read_bytes(), type=list[Drop])
    pools[[drop.place for drop in drops]] = len(_POOL_NAMES)
    for number, pool in enumerate(_POOL_NAMES):
        edges = np.diff(np.concatenate(([False], pools == number, [False])).astype(np.int8))
        spans = zip(starts[np.flatnonzero(edges == 1)].tolist(), starts[np.flatnonzero(edges == -1)].tolist(), strict=True)
        Spans(job.folder / _KEPT, list(spans), is_spent=True).write(folder / f"{pool}.jsonl")
    records = _picked(job.folder, [drop.place for drop in drops])
    repeated = rejects([(record, drop.reason, drop.detail) for record, drop in zip(records, drops, strict=True)], job.personal_kinds)
    (folder / _REJECTS).write_bytes((job.folder / _REJECTS).read_bytes() + _encoder.encode_lines(repeated))
    return without(job.tally, [(record, drop.reason) for record, drop in zip(records, drops, strict=True)])
