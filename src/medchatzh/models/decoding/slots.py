"""A causal model whose sequences each have a slot of keys and values: one forward for tokens of any of them.

Legend: N rows (tokens) of a forward, H query heads, G key and value heads, D head size, S slots, L positions a slot, V vocabulary.

The tokens of all sequences, pieces of prompts and single next ones, stand one after another in one row of batch, without padding between
them. The model is transformers' own, with an attention function that keeps keys and values in slots and attends over each sequence alone.
So a sequence's logits can be the same to the bit whatever is computed beside it:

- attention is a loop, or a call, over the sequence's own tokens, in pieces that nothing but its own length decides;
- all else works on rows. Whether a matrix product gives a row the same bits among any number of rows is a matter of library and machine
  (on x86 oneDNN's does, MKL's from 4 rows on), so it is tried when the model is loaded: `sizes` are the numbers of rows for which it holds
  here, and every forward is filled up to the next of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from medchatzh.models import Model
from medchatzh.models.decoding.attention import attend

ROW_SIZES: tuple[int, ...] = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Numbers of rows that a forward may have. Multiples of 8 also keep elementwise kernels off their tails, which round in another way."""
PIECE_TOKENS = 128
"""A prompt is read in pieces of so many tokens."""
_ATTENTION = "medchatzh_slots"


class Piece(NamedTuple):
    """Consecutive tokens of one sequence, at positions from `start` on; those before them have been read, or stand in an earlier piece."""

    slot: int
    start: int
    ids: Sequence[int]


class SlotModel:
    """Takes a loaded model over: its attention and, on a CPU, its linear layers are replaced, so that it is of no other use any more."""

    def __init__(self, model: Model) -> None:
        """ValueError where a layer's attention is not plain attention over all earlier positions."""
        with suppress(ValueError):  # some refuse, some only warn
            model.set_attn_implementation(_ATTENTION)
        if model.config._attn_implementation != _ATTENTION:
            raise ValueError(f"{type(model).__name__} does not call transformers' attention interface, which slots need")
        self.max_positions = _max_positions(model.config)
        self._model = model.eval()
        self._cache = _Cache(compiled=model.device.type == "cpu" and model.dtype == torch.float32)
        if self._cache.compiled and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            _pack(model)
        self.reserve(1, 1)
        self.sizes = ROW_SIZES  # all of them while they are tried
        self.sizes = self._same_to_the_bit()

    def reserve(self, num_slots: int, num_positions: int) -> None:
        """Make room for at least so many slots, and so many positions in each; what the slots hold stays."""
        self._cache.reserve(num_slots, num_positions)

    def forward(self, pieces: Sequence[Piece], wanted: Sequence[int]) -> torch.Tensor:
        """[len(wanted), V] float32: the logits behind the last tokens of the pieces with the numbers `wanted`. At most sizes[-1] tokens."""
        device = self._model.device
        layout = _Layout(pieces, self._cache, device)
        num_rows = len(layout.ids)
        tokens = np.zeros((2, 1, self._size(num_rows)), np.int64)
        tokens[:, 0, :num_rows] = layout.ids, layout.positions
        last = np.zeros(self._size(len(wanted)), np.int64)
        last[: len(wanted)] = layout.last[wanted]
        input_ids, position_ids = torch.from_numpy(tokens).to(device)
        keep = torch.from_numpy(last).to(device)
        with torch.inference_mode():
            output = self._model(input_ids=input_ids, position_ids=position_ids, use_cache=False, logits_to_keep=keep, slot_layout=layout)
        num_layers = self._model.config.num_hidden_layers
        if layout.num_layers != num_layers:
            raise ValueError(f"{layout.num_layers} of the model's {num_layers} layers have plain attention; slots can hold no others")
        return output.logits[0, : len(wanted)].float()

    def _size(self, num_rows: int) -> int:
        return next(size for size in self.sizes if size >= num_rows)

    def _same_to_the_bit(self) -> tuple[int, ...]:
        """Those of ROW_SIZES at which every row has the bits of the first at the largest, seen on copies of one sequence of one token."""
        first: torch.Tensor | None = None
        same: list[int] = []
        for size in reversed(ROW_SIZES):  # compared one by one, not all kept: with Qwen's vocabulary the largest has 300 MB
            logits = self.forward([Piece(0, 0, [0])] * size, range(size))
            first = logits[:1].clone() if first is None else first
            if torch.equal(logits, first.expand_as(logits)):
                same.append(size)
        if ROW_SIZES[-1] not in same:
            warnings.warn("an answer may depend on what is decoded beside it, on this machine with these threads", stacklevel=2)
            return ROW_SIZES
        return tuple(reversed(same))


class _Layout:
    """Where the rows of one forward belong; those of single tokens come first."""

    def __init__(self, pieces: Sequence[Piece], cache: _Cache, device: torch.device) -> None:
        order = sorted(range(len(pieces)), key=lambda number: len(pieces[number].ids) > 1)
        ordered = [pieces[number] for number in order]
        counts = np.array([len(piece.ids) for piece in ordered])
        stops = counts.cumsum()
        self.ids = [token for piece in ordered for token in piece.ids]
        self.positions = np.concatenate([np.arange(piece.start, piece.start + len(piece.ids)) for piece in ordered])
        self.slots = np.repeat([piece.slot for piece in ordered], counts)
        self.where = torch.from_numpy(self.slots).to(device), torch.from_numpy(self.positions).to(device)
        self.num_single = int((counts == 1).sum())
        self.segments = [(piece, stop - len(piece.ids), stop) for piece, stop in zip(ordered, stops.tolist(), strict=True)]
        """Each piece with its first row and the one behind its last."""
        self.last = np.empty(len(pieces), np.int64)
        self.last[order] = stops - 1
        """The last row of each piece, in the order given."""
        self.cache = cache
        self.num_layers = 0
        """Layers that have attended."""


class _Cache:
    """Keys and values of all layers and slots, and attention over them."""

    def __init__(self, *, compiled: bool) -> None:
        self.compiled = compiled
        """Whether single tokens attend in the compiled loop, which is for float32 on a CPU."""
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._num_slots = self._num_positions = 0
        self._num_threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._num_threads)

    def reserve(self, num_slots: int, num_positions: int) -> None:
        num_slots, num_positions = max(num_slots, self._num_slots), max(num_positions, self._num_positions)
        if (num_slots, num_positions) != (self._num_slots, self._num_positions):
            self._keys = [_enlarged(old, num_slots, num_positions) for old in self._keys]
            self._values = [_enlarged(old, num_slots, num_positions) for old in self._values]
            self._num_slots, self._num_positions = num_slots, num_positions

    def attend(
        self, layout: _Layout, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """[1, N, H, D] of query [1, H, N, D], key and value [1, G, N, D]. What stands in key and value is kept first."""
        if layer == len(self._keys):
            self._keys.append(_enlarged(key[:, :, :0], self._num_slots, self._num_positions))
            self._values.append(_enlarged(value[:, :, :0], self._num_slots, self._num_positions))
        keys, values = self._keys[layer], self._values[layer]
        slots, positions = layout.where
        keys[slots, :, positions] = key[0, :, : len(slots)].transpose(0, 1)
        values[slots, :, positions] = value[0, :, : len(slots)].transpose(0, 1)
        rows = query[0].transpose(0, 1).contiguous()
        out = rows.new_zeros(*rows.shape[:2], value.shape[3])
        segments = layout.segments
        if self.compiled and layout.num_single:
            self._attend_single(layout, scale, rows.numpy(), keys.numpy(), values.numpy(), out.numpy())
            segments = segments[layout.num_single :]
        for piece, first, stop in segments:
            end = piece.start + stop - first
            out[first:stop] = _attend(rows[first:stop], keys[piece.slot, :, :end], values[piece.slot, :, :end], scale)
        layout.num_layers += 1
        return out[None]

    def _attend_single(
        self, layout: _Layout, scale: float, rows: np.ndarray, keys: np.ndarray, values: np.ndarray, out: np.ndarray
    ) -> None:
        """The first `layout.num_single` of rows [N, H, D] into out, shared among threads by length."""
        lengths = layout.positions[: layout.num_single] + 1
        shares = lengths.cumsum() * self._num_threads // (lengths.sum() + 1)
        parts = [slice(*np.searchsorted(shares, [part, part + 1])) for part in range(self._num_threads)]

        def work(part: slice) -> None:
            if part.start < part.stop:
                attend(rows[part], keys, values, layout.slots[part], lengths[part], np.float32(scale), out[part])

        if self._num_threads == 1:
            work(parts[0])
        else:
            list(self._pool.map(work, parts))


def _enlarged(old: torch.Tensor, num_slots: int, num_positions: int) -> torch.Tensor:
    """[S, G, L, D] with what stands in old."""
    new = old.new_empty(num_slots, old.shape[1], num_positions, old.shape[3])
    new[: old.shape[0], :, : old.shape[2]] = old
    return new


def _attend(rows: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
    """[T, H, D] of the last T rows [T, H, D] of a sequence with keys and values [G, E, D]."""
    num_rows, num_heads, size = rows.shape
    num_groups, end, _ = keys.shape
    if num_rows == 1:
        heads = rows.view(1, num_groups, num_heads // num_groups, size)
        return scaled_dot_product_attention(heads, keys[None], values[None], scale=scale).reshape(1, num_heads, -1)
    if num_groups < num_heads:
        keys, values = (tensor.repeat_interleave(num_heads // num_groups, 0) for tensor in (keys, values))
    mask = None if num_rows == end else torch.ones(num_rows, end, dtype=torch.bool, device=rows.device).tril(end - num_rows)
    heads = rows.transpose(0, 1)[None]
    return scaled_dot_product_attention(heads, keys[None], values[None], mask, is_causal=mask is None, scale=scale)[0].transpose(0, 1)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    slot_layout: _Layout,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer."""
    special = [name for name in ("softcap", "s_aux", "position_bias") if options.get(name) is not None]
    if special:
        raise ValueError(f"this model's attention has {', '.join(special)}, which slots do not compute; decode it with transformers")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return slot_layout.cache.attend(slot_layout, module.layer_idx, query, key, value, scale), None


AttentionInterface.register(_ATTENTION, _attention)


def _max_positions(config: Any) -> int:
    """Positions for which each token attends to all before it, and its rotation does not depend on what else is in the batch."""
    limits = [config.max_position_embeddings, getattr(config, "sliding_window", None)]
    rotation = getattr(config, "rope_parameters", None) or {}
    if rotation.get("rope_type") in ("dynamic", "longrope"):
        limits.append(rotation.get("original_max_position_embeddings"))
    return min(limit for limit in limits if limit)


class _Packed(torch.nn.Module):
    """A linear layer whose weight is laid out for oneDNN once, as torch.compile does when it freezes a model.

    2.3 times faster than MKL's product on an AMD processor (64 rows, 384 × 1,024: 220 against 95 GFLOP/s on one core), which gets no
    AVX-512 from MKL.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 64)
        self._bias = linear.bias

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")


def _pack(model: Model) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:
                parent.register_module(name, _Packed(child))
