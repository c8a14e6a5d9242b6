"""Many dialogues at once: their characters in one array, read straight off the JSON lines that ingest wrote.

A record becomes a `Dialogue` only when somebody asks for it. So the many that nothing is wrong with cost no Python object: their
characters are looked at in compiled loops, and their line is copied as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from medchatzh.curate import kernels
from medchatzh.curate.lines import parse
from medchatzh.curate.normal import Normal, normalised
from medchatzh.records import Dialogue

_decoder = msgspec.json.Decoder(Dialogue)
_ROLES = {"system": 0, "user": 1, "assistant": 2}
SYSTEM, USER, ASSISTANT = _ROLES.values()


class Batch:
    """R records with T turns in all.

    codes [C], starts [T + 1]: turn t is `codes[starts[t]:starts[t + 1]]`; roles [T]; owner [T], its record; first_turn [R + 1]; group [R],
    the place in `groups` of its (pool, source); has_edits [R].
    """

    codes: NDArray[np.uint32]
    starts: NDArray[np.int64]
    roles: NDArray[np.uint8]
    first_turn: NDArray[np.int64]
    group: NDArray[np.int64]
    groups: list[tuple[str, str]]
    has_edits: NDArray[np.bool_]
    data: bytes | None = None
    """The lines themselves, where it was made of them ..."""
    lines: NDArray[np.int64]
    """... and where they begin, [R + 1]."""

    def __init__(self, records: Sequence[Dialogue]) -> None:
        self._records: dict[int, Dialogue] = dict(enumerate(records))
        turns = [turn for record in records for turn in record.turns]
        self.codes, self.starts = kernels.code_points([turn.content for turn in turns])
        self.roles = np.fromiter((_ROLES[turn.role] for turn in turns), np.uint8, len(turns))
        self.first_turn = np.zeros(len(records) + 1, np.int64)
        np.cumsum(np.fromiter((len(record.turns) for record in records), np.int64, len(records)), out=self.first_turn[1:])
        known: dict[tuple[str, str], int] = {}
        self.group = np.fromiter((known.setdefault((one.pool, one.source), len(known)) for one in records), np.int64, len(records))
        self.groups = list(known)
        self.has_edits = np.fromiter((bool(record.edits) for record in records), bool, len(records))

    @classmethod
    def of_lines(cls, data: bytes) -> Batch:
        """The records of JSON lines. Raises msgspec.DecodeError where one holds no Dialogue."""
        if (parsed := parse(data)) is None:  # valid perhaps, but not as we write it
            return cls(_decoder.decode_lines(data))
        made = cls.__new__(cls)
        made._records = {}
        made.data = data
        made.codes, made.starts, made.roles, made.lines, made.first_turn, sources, is_general, made.has_edits = parsed
        pools = is_general.astype(np.uint64)
        _, first, group = np.unique(sources * np.uint64(2) + pools, return_index=True, return_inverse=True)
        made.group = group.reshape(-1)
        made.groups = [(record.pool, record.source) for record in map(made.record, first.tolist())]
        return made

    def __len__(self) -> int:
        return len(self.group)

    def record(self, row: int) -> Dialogue:
        """One of the records."""
        if row not in self._records:
            assert self.data is not None
            self._records[row] = _decoder.decode(memoryview(self.data)[self.lines[row] : self.lines[row + 1]])
        return self._records[row]

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self)), np.diff(self.first_turn))

    @cached_property
    def normal(self) -> Normal:
        """The turns' texts as `records.normalize` makes them; those of the system empty."""
        return normalised(self.codes, self.starts, self.roles != SYSTEM)

    def spoken(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
        """(codes, begins, ends) of the normalised texts of some records, their turns one after another."""
        codes, starts = self.normal
        return codes, starts[self.first_turn[rows]], starts[self.first_turn[rows + 1]]
