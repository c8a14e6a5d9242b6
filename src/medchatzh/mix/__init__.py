"""Mix stage: what is trained on. Sources in the wanted proportions, shuffled, split by question, in the forms that trainers read.

Whatever is drawn is drawn by a hash of seed and record: the same records in another order, or among others, are drawn the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from medchatzh.mix import card, exports
from medchatzh.mix.exports import SPLITS
from medchatzh.mix.proportions import INDEX_TYPE, POOLS, Chosen, Proportions, choose, index
from medchatzh.mix.writing import LEFT_OUT, Part, Place, write_part
from medchatzh.records import Pool
from medchatzh.run import SCRATCH, Context, Result
from medchatzh.shards import Facts, byte_ranges, shard, work

VERSION = 1
LIBRARIES = ("pyarrow",)
INDEX = "index.npy"
SHARD_BYTES = 1 << 26
SHARD_RECORDS = 10_000
"""A Parquet file of some 10 MB. A worker took 226 MB with dialogues of 1 kB in all forms (335 MB with 20,000 records)."""


class Config(Proportions, frozen=True, kw_only=True):
    exports: tuple[Literal["parquet", "alpaca", "sharegpt"], ...] = ("parquet", "alpaca", "sharegpt")
    """Forms besides our own JSON lines: Parquet for the hub, alpaca and ShareGPT for LLaMA-Factory and its kin."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of an input file to index."""

    path: Path
    pool: Pool
    start: int
    end: int
    seed: int
    validation_share: float


class Indexed(Facts, kw_only=True):
    sources: list[str]
    """Names by the numbers in the index."""


def index_slice(job: Slice, folder: Path) -> Indexed:
    """Read a piece of a pool, and keep of each record where it lies and what it is drawn by."""
    table, sources = index(job.path, job.pool, job.start, job.end, job.seed, job.validation_share)
    np.save(folder / INDEX, table)
    return Indexed(num_in=len(table), sources=sources)


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """`curate/general.jsonl` and `score/medical.jsonl` → `train.jsonl`, `validation.jsonl`, `rejects.jsonl`, the exports and a `README.md`.

    Line n of `train.jsonl`, item n of the exports and row n of the Parquet files are the same dialogue.
    """
    exports.check(config.exports)
    folders: dict[Pool, Path] = {"general": inputs["curate"], "medical": inputs["score"]}
    files = {pool: folder.resolve() / f"{pool}.jsonl" for pool, folder in folders.items()}
    table, sources = _indexed(config, files, out, context)
    chosen = choose(table, sources, config)
    if not len(chosen.train):
        raise ValueError(
            "mix: nothing is left to train on; look at the rejects of curate and score, and at mix.weights and the bounds of [mix]"
        )
    parts = _parts(chosen, table, tuple(files[pool] for pool in POOLS), config.exports, out)
    merged = [f"{split}.jsonl" for split in (*SPLITS, LEFT_OUT)] + [name for form in config.exports for name in exports.merged_files(form)]
    work(
        write_part,
        parts,
        out,
        context,
        label="mix",
        unit="records",
        kind=Facts,
        merge=merged,
        total=sum(part.end - part.start for part in parts),
    )
    if "parquet" in config.exports:
        _gather_parquet(parts, out)
    exports.write_dataset_info(out, config.exports)
    facts = _facts(chosen, table, sources)
    dropped = {reason: int((chosen.reasons == number).sum()) for number, reason in enumerate(chosen.reason_names) if number}
    result = Result(
        num_in=len(table), num_out=len(table) - sum(dropped.values()), dropped={k: v for k, v in dropped.items() if v}, facts=facts
    )
    card.write(out, inputs, config, context.seed, result)
    return result


def _indexed(config: Config, files: Mapping[Pool, Path], out: Path, context: Context) -> tuple[np.ndarray, list[str]]:
    """The index of all records, pool by pool, and the names of the sources."""
    jobs = [
        Slice(path=path, pool=pool, start=start, end=end, seed=context.seed, validation_share=config.validation_share)
        for pool, path in files.items()
        for start, end in byte_ranges(path, SHARD_BYTES)
    ]
    sizes = [job.end - job.start for job in jobs]
    found = work(index_slice, jobs, out, context, label="mix index", unit="records", kind=Indexed, sizes=sizes)
    sources = sorted({name for each in found for name in each.sources})
    number_of = {name: number for number, name in enumerate(sources)}
    tables = []
    for number, each in enumerate(found):
        table = np.load(shard(out, "mix index", number) / INDEX)
        table["source"] = np.array([number_of[name] for name in each.sources], np.uint16)[table["source"]]
        tables.append(table)
    return np.concatenate(tables) if tables else np.zeros(0, INDEX_TYPE), sources


def _parts(chosen: Chosen, table: np.ndarray, files: tuple[Path, ...], forms: Sequence[str], out: Path) -> list[Part]:
    """Jobs of at most `SHARD_RECORDS` records, of each split at least one: an empty file is a file too."""
    parts: list[Part] = []
    left_out = np.flatnonzero(chosen.reasons)
    for split, records in ((SPLITS[0], chosen.train), (SPLITS[1], chosen.validation), (LEFT_OUT, left_out)):
        places = np.zeros(len(records), Place)
        for field in ("pool", "offset", "length"):
            places[field] = table[field][records]
        places["reason"] = chosen.reasons[records]
        path = out.resolve() / SCRATCH / f"{split}.npy"
        np.save(path, places)
        num_parts = max(1, -(-len(records) // SHARD_RECORDS))
        parts += [
            Part(
                split=split,
                number=number,
                num_parts=num_parts,
                places=path,
                start=number * SHARD_RECORDS,
                end=min(len(records), (number + 1) * SHARD_RECORDS),
                files=files,
                reasons=chosen.reason_names,
                forms=tuple(forms),
            )
            for number in range(num_parts)
        ]
    return parts


def _gather_parquet(parts: Sequence[Part], out: Path) -> None:
    """Put the Parquet files into their place. One that is not with its shard was put there before a kill."""
    (out / "data").mkdir(exist_ok=True)
    for job, part in enumerate(parts):
        name = exports.parquet_name(part.split, part.number, part.num_parts)
        made = shard(out, "mix", job) / name
        if made.exists():
            made.replace(out / "data" / name)


def _facts(chosen: Chosen, table: np.ndarray, sources: Sequence[str]) -> dict[str, Any]:
    """Counts of lines by pool and by source; `repeats` are lines of training that are not a record's first."""
    is_trained = np.zeros(len(table), bool)
    is_trained[chosen.train] = True

    def counts(field: str, names: Sequence[str]) -> dict[str, dict[str, int]]:
        groups = table[field]
        columns = {"num_in": groups, "train": groups[chosen.train], "validation": groups[chosen.validation], "once": groups[is_trained]}
        found = {column: np.bincount(members, minlength=len(names)).tolist() for column, members in columns.items()}
        found["repeats"] = [lines - once for lines, once in zip(found["train"], found.pop("once"), strict=True)]
        return {name: {column: counted[number] for column, counted in found.items()} for number, name in enumerate(names)}

    return {
        "by_pool": counts("pool", POOLS),
        "by_source": counts("source", sources),
        "num_train": len(chosen.train),
        "num_validation": len(chosen.validation),
    }
