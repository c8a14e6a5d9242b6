"""Examples of any length → full rows, so that almost no position is padding, and no example sees its neighbour.

Legend: B rows a micro batch, T tokens a row, N examples in the micro batch.

Isolation: position ids restart at each example, and attention either is told the examples' places (`attention.py`) or builds a
block-diagonal causal mask from the position ids, as transformers does where no attention mask is given. (With an all-ones mask or a
cache it leaks silently: a difference of 0.69 in logits against 1e-7.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medchatzh.prompt import IGNORE_INDEX

if TYPE_CHECKING:
    import torch

Ints = np.ndarray
_OPEN_ROWS = 64
"""Rows kept open while packing. Best fit over 64 fills more than 97 % of 512-token rows on dialogues; all open would be quadratic."""


class Batch(NamedTuple):
    """One packed micro batch: rows side by side [B, T], or all examples in one row without any padding [1, T]."""

    input_ids: Ints
    """[B, T] int64"""
    position_ids: Ints
    """[B, T] int64, restarting at each example and at the padding"""
    targets: Ints
    """[B, T] int64: the id that each position must predict, or IGNORE_INDEX"""
    spans: Ints
    """[N, 3] int64: row, first token and last token but one of each example"""
    examples: Ints
    """[N] int64: the examples' numbers, in the order of `spans`"""

    @property
    def num_targets(self) -> int:
        return int((self.targets != IGNORE_INDEX).sum())

    @property
    def num_tokens(self) -> int:
        """Tokens of examples; what is left of the positions is padding."""
        return int((self.spans[:, 2] - self.spans[:, 1]).sum())

    @property
    def ends(self) -> Ints:
        """[N, 2]: row and column of each example's last token."""
        return np.stack([self.spans[:, 0], self.spans[:, 2] - 1], axis=1)


@dataclass(frozen=True)
class Examples:
    """Encoded examples end to end: example i is `[offsets[i]:offsets[i + 1]]` of `input_ids` and `supervised`."""

    input_ids: Ints
    supervised: Ints
    """Whether a token's prediction counts, as bool: a label is the token itself or nothing."""
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    @property
    def num_tokens(self) -> int:
        return int(self.offsets[-1])

    @property
    def labels(self) -> Ints:
        """The tokens, or IGNORE_INDEX."""
        return np.where(self.supervised, self.input_ids.astype(np.int64), IGNORE_INDEX)

    def num_tokens_of(self, units: Sequence[Ints]) -> int:
        """Tokens of the examples in rows, or other units."""
        return sum(int((self.offsets[unit + 1] - self.offsets[unit]).sum()) for unit in units)

    def num_targets(self, chosen: Sequence[int] | Ints) -> int:
        """What some examples supervise: an example's first token is predicted by nobody."""
        return sum(int(self.supervised[self.offsets[i] + 1 : self.offsets[i + 1]].sum()) for i in chosen)


Encoded = tuple[Sequence[int] | Ints, Sequence[int] | Ints]
"""(input_ids, labels) of an example."""


def collect(encoded: Iterable[Encoded]) -> Examples:
    """Gather examples in memory, ids as int32."""
    ids: list[Ints] = []
    supervised: list[Ints] = []
    offsets = [0]
    for example_ids, labels in encoded:
        ids.append(np.asarray(example_ids, np.int32))
        supervised.append(np.asarray(labels) != IGNORE_INDEX)
        offsets.append(offsets[-1] + len(ids[-1]))
    whole = np.concatenate([np.zeros(0, np.int32), *ids]), np.concatenate([np.zeros(0, bool), *supervised])
    return Examples(*whole, np.asarray(offsets, np.int64))


def store(encoded: Iterable[tuple[int, Encoded]], folder: Path, vocab_size: int) -> None:
    """Write examples, each with the number of its record, as files that `load` maps: ids of 2 bytes where the vocabulary allows, or of
    4."""
    kind = np.uint16 if vocab_size <= 1 << 16 else np.int32
    offsets, records = [0], []
    with (folder / "input_ids.bin").open("wb") as ids, (folder / "supervised.bin").open("wb") as supervised:
        for record, (example_ids, labels) in encoded:
            ids.write(np.asarray(example_ids, kind).tobytes())
            supervised.write((np.asarray(labels) != IGNORE_INDEX).tobytes())
            offsets.append(offsets[-1] + len(example_ids))
            records.append(record)
    np.save(folder / "offsets.npy", np.asarray(offsets, np.int64))
    np.save(folder / "records.npy", np.asarray(records, np.int64))
    (folder / "kind").write_text(np.dtype(kind).name)


def load(folder: Path) -> tuple[Examples, Ints]:
    """(the examples of a folder that `store` wrote, mapped: tokens are read from disk when a batch needs them; the numbers of their
    records)."""
    offsets = np.load(folder / "offsets.npy")

    def mapped(name: str, kind: str) -> Ints:
        return np.memmap(folder / name, kind, "r", shape=(int(offsets[-1]),)) if offsets[-1] else np.zeros(0, kind)

    examples = Examples(mapped("input_ids.bin", (folder / "kind").read_text()), mapped("supervised.bin", "bool"), offsets)
    return examples, np.load(folder / "records.npy")


def pack(lengths: Sequence[int] | Ints, order: Sequence[int] | Ints, row_tokens: int) -> list[Ints]:
    """Best fit in the given order: rows of example numbers, each of at most `row_tokens` tokens.

    ValueError where an example is longer than a row: callers split or drop those first, and count them.
    """
    lengths, order = np.asarray(lengths, np.int64), np.asarray(order, np.int64)
    if not len(order):
        return []
    if len(too_long := order[lengths[order] > row_tokens]):
        raise ValueError(f"example {too_long[0]} has {lengths[too_long[0]]} tokens, a row {row_tokens}")
    from medchatzh.models.best_fit import best_fit

    rows = best_fit(lengths[order], row_tokens, _OPEN_ROWS)
    within = np.argsort(rows, kind="stable")
    return np.split(order[within], np.flatnonzero(np.diff(rows[within])) + 1)


def assemble(examples: Examples, rows: Sequence[Sequence[int] | Ints], pad_id: int, row_tokens: int = 0) -> Batch:
    """Lay rows of examples out as one micro batch: of `[len(rows), row_tokens]`, or without padding in one row where `row_tokens` is 0.

    No rows at all give one that supervises nothing: a process with nothing to do in a step still takes part in it.
    """
    if not row_tokens:
        rows = [[number for row in rows for number in row]]
        row_tokens = max(2, sum(int(examples.offsets[number + 1] - examples.offsets[number]) for number in rows[0]))
    shape = (max(1, len(rows)), row_tokens)
    input_ids = np.full(shape, pad_id, np.int64)
    position_ids = np.zeros(shape, np.int64)
    targets = np.full(shape, IGNORE_INDEX, np.int64)
    spans: list[tuple[int, int, int]] = []
    for row, numbers in enumerate(rows):
        column = 0
        for number in numbers:
            start, stop = examples.offsets[number], examples.offsets[number + 1]
            after = column + int(stop - start)
            input_ids[row, column:after] = examples.input_ids[start:stop]
            position_ids[row, column:after] = np.arange(after - column)
            ahead = slice(start + 1, stop)
            np.copyto(targets[row, column : after - 1], examples.input_ids[ahead], where=examples.supervised[ahead])
            spans.append((row, column, after))
            column = after
        position_ids[row, column:] = np.arange(row_tokens - column)
    numbers_in_order = [int(number) for row_numbers in rows for number in row_numbers]
    return Batch(input_ids, position_ids, targets, np.asarray(spans, np.int64).reshape(-1, 3), np.asarray(numbers_in_order, np.int64))


def tensors(batch: Batch, device: torch.device) -> dict[str, Any]:
    """A micro batch as the arguments of a transformers model: input_ids, position_ids, and `spans` for the attention `packed`."""
    import torch

    return {
        "input_ids": torch.from_numpy(batch.input_ids).to(device),
        "position_ids": torch.from_numpy(batch.position_ids).to(device),
        "spans": batch.spans.tolist(),
    }
