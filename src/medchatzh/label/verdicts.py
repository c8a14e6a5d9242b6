"""What labellers said: one file a labeller, appended to and synced, so that a kill loses at most the verdict in hand."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from medchatzh.label.tasks import VERDICTS, Task

Skip = Literal["", "all_wrong", "unclear_question", "cannot_judge", "other"]

SKIPS: dict[Skip, str] = {
    "all_wrong": "都不对 / all wrong",
    "unclear_question": "问题不清 / unclear question",
    "cannot_judge": "我判断不了 / I cannot judge this",
    "other": "其他，见备注 / other, see the note",
}
MAX_NOTE_CHARS = 2_000


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A labeller's word on a task. A later one on the same task takes its place."""

    task: str
    """The task's key."""
    shown: tuple[int, ...]
    """Numbers of the candidates as they were shown, from the first place on."""
    ranks: tuple[int, ...] = ()
    """By candidate, in the task's own order: one more than the number of better ones. Empty where the task was skipped."""
    skip: Skip = ""
    note: str = ""
    seconds: float = 0.0
    """On screen."""


def ranks_of(values: Sequence[float]) -> tuple[int, ...]:
    """Values, lower is better → ranks: one more than the number of better ones, so that equal values are ties."""
    return tuple(1 + sum(other < value for other in values) for value in values)


class Journal:
    """A labeller's file, held by one process."""

    def __init__(self, folder: Path, labeller: str, tasks: Sequence[Task]) -> None:
        """ValueError where another process has it, or it holds what is no verdict. A last line that a kill cut goes."""
        path = path_of(folder, labeller)
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            _sync(folder)
        is_new = not path.exists()
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ValueError(f"{path}: {labeller} is ranking in another terminal or page; go on there, or close it first") from None
        if is_new:
            _sync(path.parent)
        self.verdicts, self._size = _read(path, tasks)
        self._file.truncate(self._size)
        self.num_of: dict[str, int] = dict.fromkeys(self.verdicts, 1)
        """Task → 1 if it had a verdict when the file was opened, plus one for each since."""

    def append(self, verdict: Verdict) -> None:
        """On disk when this returns. OSError, and the file as it was, where there is no room."""
        line = msgspec.json.encode(verdict) + b"\n"
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(line)
        self.verdicts[verdict.task] = verdict
        self.num_of[verdict.task] = self.num_of.get(verdict.task, 0) + 1

    def close(self) -> None:
        self._file.close()


def path_of(folder: Path, labeller: str) -> Path:
    return folder / VERDICTS / f"{labeller}.jsonl"


def read_verdicts(folder: Path, labeller: str, tasks: Sequence[Task]) -> dict[str, Verdict]:
    """Task's key → the labeller's last verdict; {} where there is none yet. Someone may be writing: half a last line is left out."""
    path = path_of(folder, labeller)
    return _read(path, tasks)[0] if path.exists() else {}


def _read(path: Path, tasks: Sequence[Task]) -> tuple[dict[str, Verdict], int]:
    """(verdicts, bytes of whole lines)."""
    sizes = {task.key: len(task.candidates) for task in tasks}
    decode = msgspec.json.Decoder(Verdict).decode
    verdicts: dict[str, Verdict] = {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            verdict = decode(line)
            if verdict.task not in sizes:
                raise ValueError(f"task {verdict.task} is not in this folder's tasks")
            _check(verdict, sizes[verdict.task])
        except (msgspec.DecodeError, ValueError) as error:
            raise ValueError(f"{path}:{number}: not a verdict on a task of this folder: {error}; move the line elsewhere") from None
        verdicts[verdict.task] = verdict
    return verdicts, len(whole)


def _check(verdict: Verdict, num_answers: int) -> None:
    if sorted(verdict.shown) != list(range(num_answers)):
        raise ValueError(f"shown is not an order of {num_answers} answers")
    if bool(verdict.ranks) == bool(verdict.skip):
        raise ValueError("either ranks or a reason to skip")
    if verdict.ranks and (len(verdict.ranks) != num_answers or verdict.ranks != ranks_of(verdict.ranks)):
        raise ValueError(f"{list(verdict.ranks)} are not the ranks of {num_answers} answers")


def _sync(folder: Path) -> None:
    """A new file's name is on disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
