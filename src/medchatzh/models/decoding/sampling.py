"""The next token of each row: repetition penalty, least length, greedy or sampled. What a row gets depends on that row alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medchatzh.recipe import Settings

if TYPE_CHECKING:
    import torch


class Decoding(Settings, frozen=True, kw_only=True):
    """How answers are decoded. The defaults are the paper's (inference.py): `do_sample` unset, so greedy."""

    max_new_tokens: int = 512
    min_new_tokens: int = 5
    repetition_penalty: float = 1.2
    do_sample: bool = False
    temperature: float = 0.1
    """With `top_p` and `top_k` only used where `do_sample` is true."""
    top_p: float = 0.75
    top_k: int = 40
    """0 for no limit."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not 0 <= self.min_new_tokens <= self.max_new_tokens:
            raise ValueError("max_new_tokens must be at least 1, min_new_tokens between 0 and it")
        if self.temperature <= 0 or not 0 < self.top_p <= 1 or self.repetition_penalty <= 0:
            raise ValueError("temperature and repetition_penalty must be positive, top_p in (0, 1]")
        if self.top_k < 0:
            raise ValueError("top_k must not be negative (0: no limit)")


class Row(NamedTuple):
    """What the choice of one token depends on, besides its logits."""

    decoding: Decoding
    sequence: np.ndarray
    """[T] int64: prompt and answer so far"""
    num_new: int
    draw: float
    """Uniform in [0, 1): which token of the distribution is taken"""
    stop_ids: tuple[int, ...]


def choose(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """The next ids of rows [R] from float32 logits [R, V], which are overwritten.

    Greedy ids are those of transformers' `generate` for the same logits, to the bit. Sampled ones have its distribution, with draws of our
    own: its generator is shared by the batch, so that there a row's tokens depend on its neighbours. Of several equal logits at the k-th
    place, which bf16 has at times, it keeps all; here `top_k` stay.
    """
    import torch

    with torch.inference_mode():
        _penalize(logits, rows)
        for number, row in enumerate(rows):
            if row.num_new < row.decoding.min_new_tokens:
                logits[number, list(row.stop_ids)] = -float("inf")
        ids: list[int] = logits.argmax(-1).tolist()
        alike: defaultdict[tuple[float, int, float], list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            if row.decoding.do_sample:
                alike[row.decoding.temperature, row.decoding.top_k, row.decoding.top_p].append(number)
        for (temperature, top_k, top_p), numbers in alike.items():
            drawn = _sample(logits[numbers] / temperature, top_k, top_p, [rows[number].draw for number in numbers])
            for number, token in zip(numbers, drawn, strict=True):
                ids[number] = token
    return ids


def _penalize(logits: torch.Tensor, rows: Sequence[Row]) -> None:
    """Repetition penalty over prompt and answer, as `RepetitionPenaltyLogitsProcessor` of transformers computes it."""
    import torch

    penalties = [row.decoding.repetition_penalty for row in rows]
    if all(penalty == 1 for penalty in penalties):
        return
    seen = np.empty((len(rows), max(len(row.sequence) for row in rows)), np.int64)
    for number, row in enumerate(rows):
        seen[number, : len(row.sequence)] = row.sequence
        seen[number, len(row.sequence) :] = row.sequence[0]  # once more the same id changes nothing: all get the value from before
    ids = torch.from_numpy(seen).to(logits.device)
    penalty = torch.tensor(penalties, dtype=logits.dtype, device=logits.device)[:, None]
    before = logits.gather(1, ids)
    logits.scatter_(1, ids, torch.where(before < 0, before * penalty, before / penalty))


def _sample(scores: torch.Tensor, top_k: int, top_p: float, draws: Sequence[float]) -> list[int]:
    """One id a row of scores [R, V], by inversion of the cumulative distribution of what top-k, then top-p leave."""
    import torch

    columns = None
    if top_k:
        scores, columns = scores.topk(min(top_k, scores.shape[1]))
    elif top_p < 1:
        scores, columns = scores.sort(descending=True, stable=True)
    shares = scores.softmax(-1)
    if top_p < 1:
        rest = shares.flip(-1).cumsum(-1).flip(-1)  # from the least likely on, as transformers adds them up
        rest[:, 0] = float("inf")  # the likeliest stays, however small top_p
        shares = shares.masked_fill(rest <= 1 - top_p, 0)
    totals = shares.double().cumsum(-1)
    wanted = torch.tensor(draws, dtype=torch.double, device=scores.device)[:, None] * totals[:, -1:]
    places = (totals <= wanted).sum(-1, keepdim=True).clamp(max=scores.shape[1] - 1)
    chosen = places if columns is None else columns.gather(1, places)
    return chosen[:, 0].tolist()
