"""Losses: what a stage asks of the model for a micro batch, as sums, so that the loop can divide by what the whole step supervises."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from medchatzh import models
from medchatzh.models.packing import Batch, tensors
from medchatzh.prompt import IGNORE_INDEX

CHUNK_BYTES = {"cpu": 32 << 20, "cuda": 512 << 20}
"""Logits in fp32 that are in memory at a time: on a CPU they stay near the caches."""
GROUP_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
"""Gradients of logits, in the arithmetic's type, that are kept until they become one product for the head: a product a chunk would add a
matrix of the head's size each time. (2,048 tokens on one core: 8,000 pieces 144 against 243 ms by `cross_entropy` of whole logits;
64,000: 2,393 against 3,302, a product a chunk 4,983.)"""


class _HeadLoss(torch.autograd.Function):
    """Summed cross-entropy of `hidden @ weight.T`, by chunks of rows; gradients are worked out in the forward pass, while the logits are
    there."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        inputs, head = hidden.to(dtype), weight.to(dtype)
        kind, vocab_size = hidden.device.type, len(weight)
        rows = max(1, CHUNK_BYTES[kind] // (4 * vocab_size))
        grouped = rows * max(1, GROUP_BYTES[kind] // (inputs.element_size() * vocab_size * rows))
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1]]
        to_hidden = torch.empty_like(inputs) if wanted[0] else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        total = torch.zeros((), dtype=torch.float64 if hidden.device.type == "cpu" else torch.float32, device=hidden.device)
        slopes = inputs.new_empty(min(grouped, len(inputs)) if any(wanted) else 0, vocab_size)
        for start in range(0, len(inputs), rows):
            part, chosen = inputs[start : start + rows], targets[start : start + rows, None]
            logs = torch.log_softmax(part @ head.T, -1, dtype=torch.float32)
            total -= logs.gather(1, chosen).sum()
            if not any(wanted):
                continue
            first, stop = start % grouped, start % grouped + len(part)
            slopes[first:stop] = logs.exp_().scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=torch.float32))
            if to_hidden is not None:
                torch.mm(slopes[first:stop], head, out=to_hidden[start : start + rows])
            end = start + len(part)
            if to_weight is not None and (stop == grouped or end == len(inputs)):
                to_weight += slopes[:stop].T @ inputs[end - stop : end]
        ctx.save_for_backward(to_hidden, to_weight)
        ctx.dtypes = hidden.dtype, weight.dtype
        return total.float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        found = (
            None if tensor is None else (tensor * gradients[0]).to(dtype)
            for tensor, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return *found, None, None


def head_loss(hidden: torch.Tensor, head: torch.nn.Module, targets: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy (nats, fp32) of the targets [N] under a model's head on `hidden` [N, H].

    Equal to `cross_entropy(head(hidden), targets, reduction="sum")`, without the logits in memory. Arithmetic as in autocast. A head
    that is more than one matrix (a bias, an adapter), or whose matrix is elsewhere until it is called (ZeRO-3), is called as it is.
    """
    if type(head) is not torch.nn.Linear or head.bias is not None or hasattr(head.weight, "ds_id"):
        return cross_entropy(head(hidden).float(), targets, reduction="sum")
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.weight.dtype
    return _HeadLoss.apply(hidden, head.weight, targets, dtype)


def causal(model: models.Model, batch: Batch, neftune_alpha: float = 0.0) -> torch.Tensor:
    """Summed cross-entropy over the supervised positions. The head runs on those alone: in SFT half the positions are questions.

    With `neftune_alpha`, a model in training sees its embeddings with noise of ± alpha / √(tokens of the example × width)
    (arXiv:2310.05914).
    """
    arguments = tensors(batch, model.device)
    if neftune_alpha and model.training:
        embedded = model.get_input_embeddings()(arguments.pop("input_ids"))
        reach = torch.zeros(embedded.shape[:2])
        for row, start, stop in batch.spans.tolist():
            reach[row, start:stop] = neftune_alpha / math.sqrt((stop - start) * embedded.shape[-1])
        noise = torch.empty_like(embedded).uniform_(-1, 1) * reach[..., None].to(embedded)
        arguments["inputs_embeds"] = embedded + noise
    hidden = model.model(**arguments, use_cache=False).last_hidden_state
    targets = torch.from_numpy(batch.targets).to(hidden.device)
    supervised = targets != IGNORE_INDEX
    return head_loss(hidden[supervised], model.get_output_embeddings(), targets[supervised])
