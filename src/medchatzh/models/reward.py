"""Scores of a reward model: packed rows for training, sorted batches for scoring.

A score is the same to the bit whatever is scored with it. A batch holds one example a row and has one of few shapes, always full (blank
rows fill the last one): so every example meets the same kernels at every call, no padding stands before it, and nothing else is in its row.
Scores can therefore be kept by content, and a run that finds half of them equals one that finds none. (Measured on a CPU, fp32 and bf16,
one and two threads: no bit differs. 1.2 to 1.5 times faster than packed rows of 1,024 tokens, too: no attention is paid to a neighbour.)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from medchatzh import models, prompt
from medchatzh.models.packing import Batch, Examples, collect, tensors
from medchatzh.records import Turn
from medchatzh.run import Progress

if TYPE_CHECKING:
    import torch

BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Tokens a batch by kind of device. Part of the arithmetic: see `arithmetic`."""
_SHORTEST = 32


def rewards(model: models.Model, batch: Batch) -> torch.Tensor:
    """[N] scores, one an example, read at its EOS. Equal to `…ForSequenceClassification` on each example alone."""
    import torch

    hidden = model.model(**tensors(batch, model.device), use_cache=False).last_hidden_state
    return _head(model, hidden, torch.from_numpy(batch.ends).to(model.device))


def _head(model: models.Model, hidden: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """[N] scores at `ends` [N, 2]. A sum a row and no matrix product: the latter gave a row other bits in another place of the batch."""
    import torch

    # In fp32: in bf16 21,269 records had 1,713 different scores, and 123 of them tied at the threshold.
    with torch.autocast(model.device.type, enabled=False):
        last = hidden[ends[:, 0], ends[:, 1]]
        if type(model.score) is not torch.nn.Linear or hasattr(model.score.weight, "ds_id"):  # an adapter's, or sharded by ZeRO-3
            return model.score(last)[:, 0].float()
        return (last.float() * model.score.weight.float()).sum(-1)


def width(length: int) -> int:
    """Tokens of the rows that an example of `length` tokens is scored in: four widths an octave, so a row is at least 4/5 full."""
    step = max(8, (1 << (length - 1).bit_length()) // 8)
    return max(_SHORTEST, -(-length // step) * step)


def score(model: models.Model, examples: Examples, pad_id: int, precision: str = "auto", progress: Progress | None = None) -> np.ndarray:
    """[len(examples)] float64 rewards. Attention is causal without a mask, so padding behind an example changes nothing."""
    import torch

    from medchatzh.models import attention

    model.eval()
    model.set_attn_implementation(attention.NAME)
    device = model.device
    result = np.zeros(len(examples))
    widths = np.array([width(int(length)) for length in examples.lengths], np.int64)
    with torch.inference_mode(), models.autocast(precision):
        for columns in np.unique(widths):
            members = np.flatnonzero(widths == columns)
            rows = max(1, BATCH_TOKENS[device.type] // int(columns))
            for start in range(0, len(members), rows):
                chosen = members[start : start + rows]
                input_ids = np.full((rows, columns), pad_id, np.int64)
                for row, number in enumerate(chosen):
                    first, last = examples.offsets[number : number + 2]
                    input_ids[row, : last - first] = examples.input_ids[first:last]
                spans = [(row, 0, int(length)) for row, length in enumerate(examples.lengths[chosen])]
                hidden = model.model(input_ids=torch.from_numpy(input_ids).to(device), use_cache=False, spans=spans).last_hidden_state
                ends = np.stack([np.arange(len(chosen)), examples.lengths[chosen] - 1], axis=1)
                result[chosen] = _head(model, hidden, torch.from_numpy(ends).to(device)).cpu().numpy()
                if progress:
                    progress.add(len(chosen))
    return result


class ScorerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a `Scorer` is made from, here or in another process."""

    checkpoint: Path
    max_tokens: int
    precision: str
    threads: int


class Scorer:
    """A reward model on a device, ready to score dialogues. Ziya-LLaMA-7B-Reward, as it is published, is asked in its own way (`ziya`)."""

    def __init__(self, settings: ScorerSettings) -> None:
        """Load the checkpoint. Under torchrun the device is the one of this process (LOCAL_RANK). ValueError where it is no checkpoint."""
        models.require_torch()
        import torch

        from medchatzh.models.published import ziya

        models.set_threads(settings.threads)
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        self._settings = settings
        self._ziya = ziya.Judge(settings.checkpoint, settings.precision) if ziya.is_ziya(settings.checkpoint) else None
        if self._ziya:
            self.num_parameters = self._ziya.num_parameters
            return
        self._tokenizer, self._template = models.load_tokenizer(settings.checkpoint)
        self._model = models.load_reward(settings.checkpoint)
        models.check_vocabulary(self._model, self._tokenizer, settings.checkpoint)
        self._model.to(models.device())
        self.num_parameters = models.num_parameters(self._model)

    def score(self, dialogues: Sequence[Sequence[Turn]]) -> np.ndarray:
        """[len(dialogues)] rewards; NaN where no exchange fits `max_tokens`. A long dialogue has the mean of its windows."""
        if self._ziya:
            return self._ziya.score(dialogues)
        windows: list[prompt.Encoded] = []
        owner: list[int] = []
        for number, turns in enumerate(dialogues):
            fitting, _ = prompt.split_to_fit(turns, self._tokenizer, self._template, self._settings.max_tokens)
            windows += fitting
            owner += [number] * len(fitting)
        values = score(self._model, collect(windows), self._tokenizer.pad_token_id, self._settings.precision)
        counts = np.bincount(owner, minlength=len(dialogues))
        totals = np.bincount(owner, weights=values, minlength=len(dialogues))
        return np.divide(totals, counts, out=np.full(len(dialogues), np.nan), where=counts > 0)


def arithmetic(precision: str) -> str:
    """What the bits of a score depend on besides model and text: torch, the processor, the precision and the size of a batch."""
    import torch

    device = models.device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    kind = "bf16" if models.is_bf16(precision) else "fp32"
    return f"torch {torch.__version__}, {device.type} {name}, {kind}, {BATCH_TOKENS[device.type]} tokens a batch, examples apart"
