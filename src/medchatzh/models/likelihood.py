"""Log-likelihoods of continuations under a causal model, many side by side: how exams are scored.

A continuation is what tokenizing context and continuation together gives behind the tokens that the context alone and all rivals share.
Tokenized apart, `A` after `答案：` may not be the token that the model has learnt to see there; and where one rival's first character
merges with the end of the context and another's does not, the two would be measured from different places.

Rows are padded on the right, where causal attention does not look, so that no mask is needed and nothing changes but the last bits (below
1e-5, tested). What all contexts of a group begin with (the examples of a few-shot prompt) is computed once.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Sequence
from copy import deepcopy
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medchatzh import models

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Ids = tuple[int, ...]

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Tokens a batch by kind of device, the shared ones not counted."""
_MIN_SHARED = 16
"""A shorter beginning is not worth a pass of its own."""


class Request(NamedTuple):
    """Ids of a context, never empty, and of the continuations to score behind it, none of them empty."""

    context: Ids
    continuations: tuple[Ids, ...]

    @property
    def num_tokens(self) -> int:
        """Of the context with the longest continuation."""
        return len(self.context) + max(map(len, self.continuations))


class Batch(NamedTuple):
    """Requests, by number, that are computed together, and how many tokens all of them begin with."""

    numbers: tuple[int, ...]
    num_shared: int


def request(tokenizer: PreTrainedTokenizerBase, context: str, continuations: Sequence[str]) -> Request:
    """Cut where the tokens of the context alone and of context and continuation, for all of them, begin to differ.

    With the BOS that the tokenizer itself puts first. Special tokens in the text are text. ValueError where nothing is left to begin with.
    """
    alone = _ids(tokenizer, context)
    whole = [_ids(tokenizer, context + continuation) for continuation in continuations]
    length = min(common(alone, ids) for ids in whole)
    if not length or min(map(len, whole)) == length:
        raise ValueError(f"{context[-20:]!r} and {list(continuations)!r}: no token of the context, or none of a continuation, stands alone")
    return Request(alone[:length], tuple(ids[length:] for ids in whole))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> Ids:
    ids = tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    bos = tokenizer.bos_token_id
    return (bos, *ids) if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else ids


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two sequences begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def plan(requests: Sequence[Request], groups: Sequence[Hashable], batch_tokens: int) -> list[Batch]:
    """All requests in batches: those of a group by length, at most `batch_tokens` with their padding (or a single request).

    It depends on the requests alone: whoever goes on after a kill makes the missing batches, and they are the same to the bit.
    """
    members: dict[Hashable, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    batches = []
    for numbers in members.values():
        first, *others = (requests[number].context[:-1] for number in numbers)  # the last token's output is needed of each
        num_shared = min((common(first, other) for other in others), default=0)
        num_shared = num_shared if num_shared >= _MIN_SHARED else 0
        waiting: list[int] = []
        num_rows = width = 0
        for number in sorted(numbers, key=lambda number: (requests[number].num_tokens, number)):
            rows, columns = len(_rows(requests[number])), requests[number].num_tokens - num_shared
            if waiting and (num_rows + rows) * max(width, columns) > batch_tokens:
                batches.append(Batch(tuple(waiting), num_shared))
                waiting, num_rows, width = [], 0, 0
            waiting.append(number)
            num_rows, width = num_rows + rows, max(width, columns)
        batches.append(Batch(tuple(waiting), num_shared))
    return batches


def _rows(one: Request) -> list[Ids]:
    """What the model must read: options of one token each, the letters of an exam, need no more than the context, once."""
    return list(dict.fromkeys(one.context + continuation[:-1] for continuation in one.continuations))


class Reader:
    """A causal model that tells how likely texts are. Any checkpoint folder that transformers loads."""

    def __init__(self, checkpoint: Path, threads: int = 0, precision: str = "fp32") -> None:
        """`precision`: fp32, bf16, or auto for bf16 where the processor has it. ValueError where the folder holds no causal model."""
        models.require_torch()
        import torch

        models.set_threads(threads)
        self.checkpoint = checkpoint
        self.tokenizer, _ = models.load_tokenizer(checkpoint)
        model = models.load_causal(checkpoint)
        models.check_vocabulary(model, self.tokenizer, checkpoint)
        self._model = model.to(models.device(), torch.bfloat16 if models.is_bf16(precision) else torch.float32).eval()
        self._can_choose = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._shared: tuple[Ids, Any] = ((), None)

    @property
    def max_positions(self) -> int:
        """Tokens that a request may have; what the tokenizer says, or nothing, where the model has no limit of its own."""
        return int(getattr(self._model.config, "max_position_embeddings", None) or 1 << 30)

    def read(self, requests: Sequence[Request], batches: Sequence[Batch]) -> Iterator[tuple[Batch, list[list[float]]]]:
        """Each batch with its requests' log-likelihoods (natural), a number for each continuation: the sum over its tokens."""
        for batch in batches:
            yield batch, self._read([requests[number] for number in batch.numbers], batch.num_shared)

    def batches(self, requests: Sequence[Request], groups: Sequence[Hashable]) -> list[Batch]:
        """`plan` for this device."""
        return plan(requests, groups, BATCH_TOKENS[self._model.device.type])

    def _read(self, requests: Sequence[Request], num_shared: int) -> list[list[float]]:
        import torch

        rows = [row for one in requests for row in _rows(one)]
        input_ids = np.full((len(rows), max(map(len, rows)) - num_shared), self.tokenizer.pad_token_id, np.int64)
        for number, row in enumerate(rows):
            input_ids[number, : len(row) - num_shared] = row[num_shared:]
        wanted: list[tuple[int, int, int]] = []  # (row, column of the output, token)
        owners: list[tuple[int, int]] = []
        start = 0
        for number, one in enumerate(requests):
            own = {row: start + place for place, row in enumerate(_rows(one))}
            start += len(own)
            for place, continuation in enumerate(one.continuations):
                at, first = own[one.context + continuation[:-1]], len(one.context) - 1 - num_shared
                wanted += [(at, first + offset, token) for offset, token in enumerate(continuation)]
                owners += [(number, place)] * len(continuation)
        where, columns, tokens = np.array(wanted).T
        kept, columns = np.unique(columns, return_inverse=True)
        with torch.inference_mode():
            logits = self._logits(input_ids, kept, requests[0].context[:num_shared])[where, columns].float()
            found = torch.log_softmax(logits, -1)[np.arange(len(tokens)), tokens].double().cpu().numpy()
        totals = [[0.0] * len(one.continuations) for one in requests]
        for (number, place), value in zip(owners, found.tolist(), strict=True):
            totals[number][place] += value
        return totals

    def _logits(self, input_ids: np.ndarray, columns: np.ndarray, shared: Ids) -> torch.Tensor:
        """[rows, columns, vocabulary] of those columns alone: all of 2,048 tokens over 64,000 pieces would be 520 MB."""
        import torch

        device = self._model.device
        options: dict[str, Any] = {"logits_to_keep": torch.from_numpy(columns).to(device)} if self._can_choose else {}
        if shared:
            options["past_key_values"] = self._repeated(shared, len(input_ids))
        found = self._model(input_ids=torch.from_numpy(input_ids).to(device), use_cache=bool(shared), **options).logits
        return found if self._can_choose else found[:, columns]

    def _repeated(self, shared: Ids, num_rows: int) -> Any:
        """Keys and values of a shared beginning for so many rows. The last one is kept: the batches of a group stand together."""
        import torch

        if self._shared[0] != shared:
            one = torch.tensor([shared], device=self._model.device)
            self._shared = shared, self._model(input_ids=one, use_cache=True).past_key_values
        cache = deepcopy(self._shared[1])
        cache.batch_repeat_interleave(num_rows)
        return cache
