"""Which records are taken, how often, on which side, and in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
import numpy as np

from medchatzh import prompt
from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Pool, is_held_out, normalize

POOLS: tuple[Pool, ...] = get_args(Pool)
INDEX_TYPE = np.dtype([("offset", "<u8"), ("key", "<u8"), ("length", "<u4"), ("source", "<u2"), ("pool", "u1"), ("is_validation", "?")])
"""A record of the index: 24 bytes, so that 10 million records are 240 MB whatever their texts."""


class Proportions(Settings, frozen=True, kw_only=True):
    """What to take of what is there. The paper's mix: `max_general = 1305194`, `max_medical = 763629`."""

    weights: dict[str, float] = msgspec.field(default_factory=dict)
    """Source → how often its records are taken: 0.5 takes half of them, 2 all twice, 1.5 all and half of them again; 1 if not named."""
    max_by_source: dict[str, int] = msgspec.field(default_factory=dict)
    """Source → at most so many records."""
    max_general: int = 0
    """At most so many general records; 0 for no bound."""
    max_medical: int = 0
    """At most so many medical records; 0 for no bound."""
    general_share: float = 0.0
    """Share of general records in the mix: what is too many of the one pool is left out. 0 takes what is there."""
    validation_share: float = 0.02
    """Share of the questions that are never trained on. All records of a question fall on one side, whatever the seed."""

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1 or not 0 <= self.general_share < 1:
            raise ValueError("validation_share and general_share are shares: from 0 to below 1")
        if min((self.max_general, self.max_medical, *self.max_by_source.values(), *self.weights.values())) < 0:
            raise ValueError("weights and bounds must not be negative (a weight of 0 leaves the source out)")


class Chosen(NamedTuple):
    train: np.ndarray
    """Numbers of records in the order of the file; a record with a weight above 1 stands there more than once."""
    validation: np.ndarray
    reasons: np.ndarray
    """[num_records] why a record is in neither: a number of `reason_names`, 0 for one that is taken."""
    reason_names: tuple[str, ...] = ("", "weight", "max_by_source", "max_general", "max_medical", "general_share")


def index(path: Path, pool: Pool, start: int, end: int, seed: int, validation_share: float) -> tuple[np.ndarray, list[str]]:
    """Index of the records in the bytes [start, end) of a file, and the names of its sources.

    ValueError names a record whose turns do not alternate: no trainer could read it.
    """
    decode = msgspec.json.Decoder(Dialogue).decode
    sources: dict[str, int] = {}
    rows: list[tuple[int, int, int, int, int, bool]] = []
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        while offset < end:
            line = file.readline()
            try:
                dialogue = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"{path}: byte {offset}: not a dialogue: {error}") from None
            try:
                prompt.check(dialogue.turns, answered=True)
            except ValueError as error:
                raise ValueError(f"{path}: byte {offset}: not a dialogue to train on: {dialogue.id}: {error}") from None
            digest = hashlib.blake2b(f"{seed}:{dialogue.id}".encode(), digest_size=8).digest()
            number = sources.setdefault(dialogue.source, len(sources))
            is_validation = is_held_out(normalize(dialogue.question), validation_share)
            rows.append((offset, int.from_bytes(digest, "little"), len(line), number, POOLS.index(pool), is_validation))
            offset += len(line)
    return np.array(rows, INDEX_TYPE), list(sources)


def choose(records: np.ndarray, sources: Sequence[str], wanted: Proportions) -> Chosen:
    """Weights first, then the bounds of sources, of pools, and the share of general records. Of [num_records] `INDEX_TYPE`."""
    copies = np.ones(len(records), np.int32)
    for number, source in enumerate(sources):
        if source in wanted.weights:
            whole, rest = divmod(wanted.weights[source], 1)
            members = np.flatnonzero(records["source"] == number)
            members = members[np.argsort(records["key"][members], kind="stable")]
            copies[members] = int(whole)
            copies[members[: round(rest * len(members))]] += 1
    copies[records["is_validation"]] = np.minimum(copies[records["is_validation"]], 1)  # once is enough to measure
    reasons = np.where(copies == 0, 1, 0).astype(np.uint8)

    # An item is one taking of a record. First takings come before second ones, so a bound never leaves a record out for another's copy.
    item = np.repeat(np.arange(len(records), dtype=np.uint32), copies)
    taking = np.arange(len(item)) - np.repeat(np.cumsum(copies) - copies, copies)
    order = np.lexsort((records["key"][item], taking))
    item, taking = item[order], taking[order].astype(np.uint32)
    del order, copies  # 10 million records: 80 MB an array

    def bound(members: np.ndarray, limit: int, reason: int) -> None:
        nonlocal item, taking
        kept = ~members | (np.cumsum(members) <= limit)
        item, taking = item[kept], taking[kept]
        is_taken = np.zeros(len(records), bool)
        is_taken[item] = True
        reasons[~is_taken & (reasons == 0)] = reason

    for number, source in enumerate(sources):
        if source in wanted.max_by_source:
            bound(records["source"][item] == number, wanted.max_by_source[source], 2)
    general, medical = (POOLS.index(pool) for pool in ("general", "medical"))
    if wanted.max_general:
        bound(records["pool"][item] == general, wanted.max_general, 3)
    if wanted.max_medical:
        bound(records["pool"][item] == medical, wanted.max_medical, 4)
    if wanted.general_share:
        of_pool = np.bincount(records["pool"][item], minlength=len(POOLS))
        if not of_pool.all():
            raise ValueError(f"mix.general_share = {wanted.general_share:g} needs records of both pools; one of them is empty")
        ratio = wanted.general_share / (1 - wanted.general_share)
        bound(records["pool"][item] == general, round(of_pool[medical] * ratio), 5)
        bound(records["pool"][item] == medical, round(of_pool[general] / ratio), 5)

    shuffled = item[np.argsort(_stirred(records["key"][item], taking), kind="stable")]
    is_validation = records["is_validation"][shuffled]
    return Chosen(shuffled[~is_validation], shuffled[is_validation], reasons)


def _stirred(keys: np.ndarray, taking: np.ndarray) -> np.ndarray:
    """Another hash of each key (splitmix64): in the order that they were drawn by, what a bound kept would stand in front."""
    mixed = keys + (taking.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
