"""Resumable states: `state-<step>` in a stage's scratch folder, written aside and renamed, the newest few kept."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from medchatzh.run import write_atomically
from medchatzh.train.processes import Processes

if TYPE_CHECKING:
    from medchatzh.train.engines import Engine

METRICS = "metrics.jsonl"
_SEAL = "whole.json"
"""Written last: the state's files and their bytes."""


def write_log(log: list[dict[str, Any]], path: Path) -> None:
    """Metrics, a JSON line a step."""
    path.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in log))


def read_log(path: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def save(engine: Engine, log: list[dict[str, Any]], scratch: Path, keep: int, processes: Processes) -> None:
    """Keep the state after the log's last step, drop all but the newest `keep`: a full disk or a kill leaves the last good one.

    OSError where it cannot be written, naming the folder.
    """
    aside = scratch / "aside"
    if processes.is_first:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    processes.wait()
    try:
        engine.save(aside)
        processes.wait()
        if processes.is_first:
            write_log(log, aside / METRICS)
            _seal(aside)
    except Exception as error:  # safetensors has an error of its own for a full disk
        free = shutil.disk_usage(scratch).free / 1e9
        raise OSError(
            f"{scratch}: the state after step {len(log)} cannot be written ({error}; {free:.1f} GB free); make room and run again:"
            f" training goes on from the last state that is whole"
        ) from error
    processes.wait()
    if processes.is_first:
        aside.replace(scratch / f"state-{len(log)}")
        for step in sorted(steps(scratch))[:-keep]:
            shutil.rmtree(scratch / f"state-{step}")
    processes.wait()


def steps(scratch: Path) -> list[int]:
    """The steps of which there is a state."""
    return [int(state.name.removeprefix("state-")) for state in scratch.glob("state-*")]


def _seal(folder: Path) -> None:
    """Have all files on the disk before the state gets its name: a power cut must not leave a name without its bytes."""
    sizes = {}
    for file in filter(Path.is_file, folder.rglob("*")):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        sizes[str(file.relative_to(folder))] = file.stat().st_size
    write_atomically(folder / _SEAL, msgspec.json.encode(sizes))


def _is_whole(folder: Path) -> bool:
    try:
        sizes = msgspec.json.decode((folder / _SEAL).read_bytes(), type=dict[str, int])
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, msgspec.DecodeError):
        return False


def restore(engine: Engine, scratch: Path, processes: Processes) -> list[dict[str, Any]]:
    """Load the newest state that is whole, if any; returns its log, a line a step done. Damaged ones are removed, and told."""
    found = {step: _is_whole(scratch / f"state-{step}") for step in sorted(steps(scratch))}
    processes.wait()
    if processes.is_first:
        for step in (step for step, is_whole in found.items() if not is_whole):
            print(f"medchatzh: {scratch / f'state-{step}'}: damaged, files are missing or cut; removed", file=sys.stderr)
            shutil.rmtree(scratch / f"state-{step}")
    newest = max((step for step, is_whole in found.items() if is_whole), default=None)
    if newest is None:
        return []
    folder = scratch / f"state-{newest}"
    engine.load(folder)
    return read_log(folder / METRICS)
