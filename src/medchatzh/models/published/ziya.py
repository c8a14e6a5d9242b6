"""Ziya-LLaMA-7B-Reward as judge, in its published layout: a LLaMA body and a `value_head` of one output.

Its model card (IDEA-CCNL/Ziya-LLaMA-7B-Reward) and reward_score.py of the paper's repository ask it alike: the text below with BOS and
EOS, cut at 1,024 ids, and the head's value at the last of them. Their class comes with the checkpoint as code; it is LLaMA with a head,
so none of that code is run here. They work in fp16 on a GPU; here it is fp32 or bf16 as anywhere in this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medchatzh import models
from medchatzh.models import reward
from medchatzh.models.packing import collect
from medchatzh.models.published.baselines import tokenized
from medchatzh.models.published.weights import Weights
from medchatzh.prompt import Encoded, Template, check, text
from medchatzh.records import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATE = Template("ziya-reward", "Human:{}\n\nAssistant:", source="IDEA-CCNL/Ziya-LLaMA-7B-Reward, model card")
MAX_TOKENS = 1024
_HEAD = "value_head."


def is_ziya(folder: Path) -> bool:
    """Whether the folder holds a reward model in this layout, and not in that of transformers."""
    return f"{_HEAD}weight" in Weights(folder)


def ids(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase, max_tokens: int = MAX_TOKENS) -> list[int]:
    """BOS, the text's ids, EOS; of a longer text the first `max_tokens` - 2. ValueError unless `turns` are one question and its answer."""
    check(turns, answered=True)
    if len(turns) != 2:
        raise ValueError("the Ziya reward model reads one question and its answer; score the exchanges of a dialogue one by one")
    body = tokenized(text(turns, TEMPLATE, eos=""), tokenizer)
    return [tokenizer.bos_token_id, *body[: max_tokens - 2], tokenizer.eos_token_id]


class Judge:
    """The model on a device, ready to score."""

    def __init__(self, folder: Path, precision: str = "auto") -> None:
        """ValueError where the folder holds no such model."""
        models.require_torch()
        import torch
        from transformers import LlamaForSequenceClassification

        weights = Weights(folder)
        if f"{_HEAD}weight" not in weights:
            raise ValueError(f"{folder}: no {_HEAD}weight there: not Ziya's reward model, as it is published")
        head = weights.read(f"{_HEAD}weight")
        if len(head) != 1:
            raise ValueError(f"{folder}: {_HEAD}weight has {len(head)} outputs, and a reward is one number")
        self._bias = float(weights.read(f"{_HEAD}bias")) if f"{_HEAD}bias" in weights else 0.0
        self._precision = precision
        self._tokenizer, _ = models.load_tokenizer(folder)
        kind: Any = LlamaForSequenceClassification
        try:
            self._model = kind.from_pretrained(
                folder, num_labels=1, key_mapping={"^value_head": "score"}, dtype=torch.float32, local_files_only=True
            )
        except Exception as error:  # SafetensorError, RuntimeError (shapes), OSError: whatever is wrong, it is this folder
            raise ValueError(f"{folder}: transformers cannot load it as a LLaMA: {error}") from None
        models.check_vocabulary(self._model, self._tokenizer, folder)
        self._model.to(models.device())
        self.num_parameters = models.num_parameters(self._model)

    def score(self, dialogues: Sequence[Sequence[Turn]]) -> np.ndarray:
        """[len(dialogues)] float64: the reward of each answer; of a dialogue of several, their mean."""
        exchanges = [[turn for turn in turns if turn.role != "system"] for turns in dialogues]
        asked = [ids(turns[at : at + 2], self._tokenizer) for turns in exchanges for at in range(0, len(turns), 2)]
        owner = [number for number, turns in enumerate(exchanges) for _ in range(0, len(turns), 2)]
        encoded = collect(Encoded(each, each) for each in asked)
        values = reward.score(self._model, encoded, self._tokenizer.pad_token_id, self._precision) + self._bias
        return np.bincount(owner, weights=values, minlength=len(dialogues)) / np.bincount(owner, minlength=len(dialogues))
