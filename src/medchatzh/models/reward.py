"""Scores of a reward model, in packed batches. Training and the score stage come here, so a score is the same in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medchatzh import models
from medchatzh.models.packing import Batch, Examples, assemble, pack, tensors
from medchatzh.run import Progress

if TYPE_CHECKING:
    import torch

ROW_TOKENS = 1024
"""Tokens a packed row when scoring (reward_score.py of the paper's repository: max_length 1,024)."""
_ROWS = 4


def rewards(model: models.Model, batch: Batch) -> torch.Tensor:
    """[N] scores, one an example, read at its EOS. Equal to `…ForSequenceClassification` on each example alone."""
    import torch

    hidden = model.model(**tensors(batch, model.device), use_cache=False).last_hidden_state
    ends = torch.from_numpy(batch.ends).to(model.device)
    # The head in fp32: in bf16 21,269 records had 1,713 different scores, and 123 of them tied at the threshold.
    with torch.autocast(model.device.type, enabled=False):
        return model.score(hidden[ends[:, 0], ends[:, 1]].float()).squeeze(-1)


def score(model: models.Model, examples: Examples, pad_id: int, label: str = "score", precision: str = "auto") -> np.ndarray:
    """[len(examples)] float64 rewards. Batches are packed, so hardly a position is padding."""
    import torch

    model.eval()
    result = np.zeros(len(examples))
    row_tokens = max(ROW_TOKENS, int(examples.lengths.max(initial=1)))
    rows = pack(examples.lengths, range(len(examples)), row_tokens)
    with torch.inference_mode(), models.autocast(precision), Progress(label, total=len(examples), unit="answers") as progress:
        for start in range(0, len(rows), _ROWS):
            batch = assemble(examples, rows[start : start + _ROWS], row_tokens, pad_id)
            result[batch.examples] = rewards(model, batch).cpu().numpy()
            progress.add(len(batch.examples))
    return result
