"""Attention of packed examples, each to itself alone: the work that a block-diagonal mask would throw away is not done.

Registered with transformers as the attention `packed`; the model is called with `spans`, the places of the examples, and reads each of
them as if it stood alone. On a CPU an example's scores are computed in blocks by plain matrix products, which are 3 to 5 times faster
there than PyTorch's flash kernel (bf16, 6 heads of 64, forward and backward of 2,048 tokens on one core: 64 tokens an example 9 against
28 ms, 256: 11 against 38, 1,024: 32 against 75). On CUDA it is the FlashAttention for variable lengths inside PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before PyTorch 2.10
    varlen_attn = None  # type: ignore[assignment]

NAME = "packed"
BLOCK = 128
"""Queries a block. What lies above the diagonal of a block is computed in vain, so small is good; 64 is slower again, by overhead."""
KEPT = 512
"""Probabilities of examples up to so many tokens are kept for the backward pass; of longer ones they are computed again, else they would
be most of the memory (12 heads, 2,048 tokens, bf16: 50 MB a layer)."""

Spans = Sequence[tuple[int, int, int]]
"""(row, first token, last token but one) of each example."""


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    spans: Spans | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """[B, T, H, D] of query [B, H, T, D], key and value [B, G, T, D]: G heads shared by H / G query heads each.

    Without `spans` every row is one example. Positions in no span (padding) come out as zeros.
    """
    num_rows, num_heads, num_tokens, size = query.shape
    scale = size**-0.5 if scaling is None else scaling
    query, key = query.to(value.dtype), key.to(value.dtype)  # under autocast the rotation leaves them in fp32
    if spans is None:
        spans = [(row, 0, num_tokens) for row in range(num_rows)]
    longest = max((stop - start for _, start, stop in spans), default=0)
    if sliding_window and longest > sliding_window:
        raise ValueError(
            f"an example of {longest} tokens is longer than the model's sliding window ({sliding_window}); set attention = 'sdpa'"
        )
    if query.is_cuda:
        return _on_cuda(query, key, value, spans, scale), None
    shared = num_heads // key.shape[1]
    if shared > 1:
        key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    return _Attention.apply(query, key, value, spans, scale), None


AttentionInterface.register(NAME, attention)


def _on_cuda(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, spans: Spans, scale: float) -> torch.Tensor:
    """By FlashAttention where it is (PyTorch 2.10 on, 16 bits); else example by example. Heads may be shared."""
    num_rows, num_heads, num_tokens, size = query.shape
    shared = key.shape[1] != num_heads
    if varlen_attn is None or query.dtype == torch.float32:
        out = query.new_zeros(num_rows, num_tokens, num_heads, size)
        for row, start, stop in spans:
            queries, keys, values = (tensor[row : row + 1, :, start:stop] for tensor in (query, key, value))
            found = scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale, enable_gqa=shared)
            out[row, start:stop] = found[0].transpose(0, 1)
        return out
    # Padding is an example like any other here: nobody reads what comes out.
    edges = {row * num_tokens for row in range(num_rows + 1)}
    edges |= {row * num_tokens + place for row, *places in spans for place in places}
    ordered = sorted(edges)
    longest = max(stop - start for start, stop in pairwise(ordered))
    bounds = torch.tensor(ordered, dtype=torch.int32, device=query.device)
    queries, keys, values = (tensor.transpose(1, 2).reshape(num_rows * num_tokens, -1, size) for tensor in (query, key, value))
    flat = varlen_attn(queries, keys, values, bounds, bounds, longest, longest, scale=scale, window_size=(-1, 0), enable_gqa=shared)
    assert isinstance(flat, torch.Tensor)
    return flat.view(num_rows, num_tokens, num_heads, size)


def _blocks(spans: Spans) -> list[tuple[int, int, int, int, bool]]:
    """(row, start of the example, start and stop of the block, whether its probabilities are kept)."""
    return [
        (row, start, first, min(first + BLOCK, stop), stop - start <= KEPT)
        for row, start, stop in spans
        for first in range(start, stop, BLOCK)
    ]


def _probabilities(query: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor:
    """[H, n, m] of n queries [H, n, D], the last ones of an example, and its m keys so far [H, m, D]."""
    num_queries, num_keys = query.shape[1], key.shape[1]
    ahead = torch.full((num_queries, num_keys), -torch.inf, dtype=query.dtype).triu(1 + num_keys - num_queries)
    scores = torch.baddbmm(ahead, query, key.transpose(1, 2), alpha=scale)
    return torch.softmax(scores, -1)


class _Attention(torch.autograd.Function):
    """All examples of a micro batch as one node of the graph. Arguments [B, H, T, D] of one dtype, result [B, T, H, D]."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, spans: Spans, scale: float) -> torch.Tensor:
        num_rows, num_heads, num_tokens, size = query.shape
        out = query.new_zeros(num_rows, num_tokens, num_heads, size)
        kept = []
        for row, start, first, stop, keep in _blocks(spans):
            weights = _probabilities(query[row, :, first:stop], key[row, :, start:stop], scale)
            out[row, first:stop] = torch.bmm(weights, value[row, :, start:stop]).transpose(0, 1)
            if keep:
                kept.append(weights)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.spans, ctx.scale = spans, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        query, key, value, *kept = ctx.saved_tensors
        known = iter(kept)
        to_query, to_key, to_value = (torch.zeros_like(tensor) for tensor in (query, key, value))
        for row, start, first, stop, keep in _blocks(ctx.spans):
            queries, keys, values = query[row, :, first:stop], key[row, :, start:stop], value[row, :, start:stop]
            weights = next(known) if keep else _probabilities(queries, keys, ctx.scale)
            gradient = gradients[0][row, first:stop].transpose(0, 1)
            scores = torch._softmax_backward_data(torch.bmm(gradient, values.transpose(1, 2)), weights, -1, weights.dtype).mul_(ctx.scale)
            to_query[row, :, first:stop] = torch.bmm(scores, keys)
            to_key[row, :, start:stop] += torch.bmm(scores.transpose(1, 2), queries)
            to_value[row, :, start:stop] += torch.bmm(weights.transpose(1, 2), gradient)
        return to_query, to_key, to_value, None, None
