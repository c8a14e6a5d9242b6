"""Examples of any length → full rows, so that almost no position is padding, and no example sees its neighbour.

Legend: B rows a micro batch, T tokens a row, N examples in the micro batch.

Isolation: position ids restart at each example and no attention mask is given; transformers then builds a block-diagonal
causal mask. (With an all-ones mask or a cache it leaks silently: a difference of 0.69 in logits against 1e-7.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medchatzh.prompt import IGNORE_INDEX

if TYPE_CHECKING:
    import torch

Ints = np.ndarray
_OPEN_ROWS = 64
"""Rows kept open while packing. Best fit over 64 fills more than 97 % of 512-token rows on dialogues; all open would be quadratic."""


class Batch(NamedTuple):
    """One packed micro batch."""

    input_ids: Ints
    """[B, T] int64"""
    position_ids: Ints
    """[B, T] int64, restarting at each example and at the padding"""
    targets: Ints
    """[B, T] int64: the id that each position must predict, or IGNORE_INDEX"""
    ends: Ints
    """[N, 2] int64: row and column of each example's last token"""
    examples: Ints
    """[N] int64: the examples' numbers, in the order of `ends`"""

    @property
    def num_targets(self) -> int:
        return int((self.targets != IGNORE_INDEX).sum())


@dataclass(frozen=True)
class Examples:
    """Encoded examples end to end: example i is `[offsets[i]:offsets[i + 1]]` of `input_ids` and `labels`."""

    input_ids: Ints
    labels: Ints
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    @property
    def num_tokens(self) -> int:
        return int(self.offsets[-1])

    def select(self, chosen: Sequence[int] | Ints) -> Examples:
        return collect((self.input_ids[a:b], self.labels[a:b]) for a, b in ((self.offsets[i], self.offsets[i + 1]) for i in chosen))


def collect(encoded: Iterable[tuple[Sequence[int] | Ints, Sequence[int] | Ints]]) -> Examples:
    """Gather (input_ids, labels) pairs into arrays of int32."""
    ids: list[Ints] = []
    labels: list[Ints] = []
    offsets = [0]
    for example_ids, example_labels in encoded:
        ids.append(np.asarray(example_ids, np.int32))
        labels.append(np.asarray(example_labels, np.int32))
        offsets.append(offsets[-1] + len(ids[-1]))
    empty = np.zeros(0, np.int32)
    return Examples(np.concatenate([empty, *ids]), np.concatenate([empty, *labels]), np.asarray(offsets, np.int64))


def pack(lengths: Sequence[int] | Ints, order: Sequence[int] | Ints, row_tokens: int) -> list[list[int]]:
    """Best fit in the given order: rows of example numbers, each of at most `row_tokens` tokens.

    ValueError where an example is longer than a row: callers split or drop those first, and count them.
    """
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (room left, row number)
    for number in order:
        length = int(lengths[number])
        if length > row_tokens:
            raise ValueError(f"example {number} has {length} tokens, a row {row_tokens}")
        fitting = [(room, row) for room, row in open_rows if room >= length]
        if fitting:
            room, row = min(fitting)
            open_rows.remove((room, row))
        else:
            room, row = row_tokens, len(rows)
            rows.append([])
            if len(open_rows) == _OPEN_ROWS:
                open_rows.remove(min(open_rows))
        rows[row].append(int(number))
        open_rows.append((room - length, row))
    return rows


def assemble(examples: Examples, rows: Sequence[Sequence[int]], row_tokens: int, pad_id: int) -> Batch:
    """Lay rows of examples out as one micro batch of `[len(rows), row_tokens]`."""
    shape = (len(rows), row_tokens)
    input_ids = np.full(shape, pad_id, np.int64)
    position_ids = np.zeros(shape, np.int64)
    targets = np.full(shape, IGNORE_INDEX, np.int64)
    ends: list[tuple[int, int]] = []
    for row, numbers in enumerate(rows):
        column = 0
        for number in numbers:
            start, stop = examples.offsets[number], examples.offsets[number + 1]
            after = column + int(stop - start)
            input_ids[row, column:after] = examples.input_ids[start:stop]
            position_ids[row, column:after] = np.arange(after - column)
            targets[row, column : after - 1] = examples.labels[start + 1 : stop]
            ends.append((row, after - 1))
            column = after
        position_ids[row, column:] = np.arange(row_tokens - column)
    numbers_in_order = [number for row_numbers in rows for number in row_numbers]
    return Batch(input_ids, position_ids, targets, np.asarray(ends, np.int64).reshape(-1, 2), np.asarray(numbers_in_order, np.int64))


def tensors(batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    """`input_ids` and `position_ids` of a micro batch as the arguments of a transformers model."""
    import torch

    return {
        "input_ids": torch.from_numpy(batch.input_ids).to(device),
        "position_ids": torch.from_numpy(batch.position_ids).to(device),
    }
