"""Rewards by content, kept in append-only files that outlive the run."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from medchatzh.records import Turn

_ENTRY = np.dtype([("key", "S16"), ("value", "<f8")])
_encode = msgspec.json.Encoder().encode


def content_key(turns: Sequence[Turn]) -> bytes:
    """16 bytes that stand for a dialogue's text."""
    return hashlib.blake2b(_encode(turns), digest_size=16).digest()


def as_keys(digests: Iterable[bytes]) -> np.ndarray:
    """[N] "S16" of N digests: NumPy sorts and searches them like numbers."""
    return np.frombuffer(b"".join(digests), "S16")


class RewardCache:
    """The rewards of one model in one folder, a file a writer: processes on several machines may add at once and never meet in a file.

    An entry is 24 bytes, in memory too. One that kill -9 tears is its file's last, and what is left of it is not read.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._mine = folder / f"{uuid.uuid4().hex}.rewards"
        self.load()

    def load(self) -> None:
        """Read what all writers have added by now."""
        parts = [np.zeros(0, _ENTRY)]
        for path in sorted(self._folder.glob("*.rewards")):
            data = path.read_bytes()
            parts.append(np.frombuffer(data[: len(data) - len(data) % _ENTRY.itemsize], _ENTRY))
        entries = np.concatenate(parts)
        self._entries = entries[np.argsort(entries["key"], kind="stable")]

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rewards [N], known [N] bool) of keys [N]. NaN is a reward too: of a dialogue that is too long."""
        if not len(self._entries):
            return np.full(len(keys), np.nan), np.zeros(len(keys), bool)
        places = np.minimum(np.searchsorted(self._entries["key"], keys), len(self._entries) - 1)
        found = self._entries[places]
        known = found["key"] == keys
        return np.where(known, found["value"], np.nan), known

    def add(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Append to this writer's own file; `find` sees it after the next `load`."""
        entries = np.zeros(len(keys), _ENTRY)
        entries["key"], entries["value"] = keys, values
        with self._mine.open("ab") as file:
            file.write(entries.tobytes())
