"""Writes a part of the mix in all its forms: one job of the stage."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from medchatzh.mix.exports import FORMS, parquet_name, write_array, write_parquet
from medchatzh.records import Dialogue, Reject, write
from medchatzh.shards import Facts

LEFT_OUT = "rejects"
Place = np.dtype([("offset", "<u8"), ("length", "<u4"), ("pool", "u1"), ("reason", "u1")])
"""Where a record lies; `pool` is the number of its file."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Records [start, end) of a split."""

    split: str
    number: int
    num_parts: int
    places: Path
    """[num_records] `Place`, in the order of the split."""
    start: int
    end: int
    files: tuple[Path, ...]
    reasons: tuple[str, ...]
    forms: tuple[str, ...]


def write_part(job: Part, folder: Path) -> Facts:
    """Copy the lines of a part into its file, and write the same dialogues in the other forms; what is left out becomes rejects."""
    places = np.load(job.places, mmap_mode="r")[job.start : job.end]
    lines = _lines(places, job.files)
    dialogues = [msgspec.json.decode(line, type=Dialogue) for line in lines]
    if job.split == LEFT_OUT:
        # Without the record: it stands in the inputs, where `id` finds it, and there may be millions.
        rejects = (_reject(dialogue, job.reasons[reason]) for dialogue, reason in zip(dialogues, places["reason"], strict=True))
        return Facts(num_in=write(folder / f"{LEFT_OUT}.jsonl", rejects))
    (folder / f"{job.split}.jsonl").write_bytes(b"".join(lines))
    for form in FORMS:
        if form in job.forms:
            write_array(folder / f"{form}_{job.split}.json", form, dialogues, first=job.number == 0, last=job.number == job.num_parts - 1)
    if "parquet" in job.forms:
        write_parquet(folder / parquet_name(job.split, job.number, job.num_parts), dialogues)
    return Facts(num_in=len(lines))


def _lines(places: np.ndarray, files: tuple[Path, ...]) -> list[bytes]:
    """The lines at these places, read front to back: a shuffled order would jump through the file for each."""
    lines = [b""] * len(places)
    for number, path in enumerate(files):
        members = np.flatnonzero(places["pool"] == number)
        with path.open("rb") as file:
            for member in members[np.argsort(places["offset"][members])]:
                file.seek(int(places["offset"][member]))
                lines[member] = file.read(int(places["length"][member])).rstrip(b"\n") + b"\n"
    return lines


def _reject(dialogue: Dialogue, reason: str) -> Reject:
    return Reject.of(dialogue, "mix", reason)
