"""A checkpoint that answers: batches for evaluation, a stream for chat. transformers does the decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from medchatzh import models, prompt
from medchatzh.recipe import Settings
from medchatzh.records import Turn

TOO_LONG = "prompt_too_long"


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

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not 0 <= self.min_new_tokens <= self.max_new_tokens:
            raise ValueError("max_new_tokens must be at least 1, min_new_tokens between 0 and it")
        if self.temperature <= 0 or not 0 < self.top_p <= 1 or self.repetition_penalty <= 0:
            raise ValueError("temperature and repetition_penalty must be positive, top_p in (0, 1]")


class Engine:
    """A loaded checkpoint with its own tokenizer and prompt template."""

    def __init__(self, checkpoint: Path, threads: int = 0) -> None:
        models.require_torch()
        models.set_threads(threads)
        self.tokenizer, self.template = models.load_tokenizer(checkpoint)
        self.model = models.load_causal(checkpoint)
        models.check_vocabulary(self.model, self.tokenizer, checkpoint)
        self.model.to(models.device()).eval()

    @property
    def max_positions(self) -> int:
        return int(self.model.config.max_position_embeddings)

    def answer(self, questions: Sequence[str], decoding: Decoding, max_prompt_tokens: int, seed: int = 0) -> list[tuple[str, str]]:
        """(answer, finish) for each question, decoded as one left-padded batch."""
        import torch

        limit = min(max_prompt_tokens, self.max_positions - decoding.max_new_tokens)
        prompts = [prompt.encode([Turn("user", question)], self.tokenizer, self.template).input_ids for question in questions]
        fitting = [ids for ids in prompts if len(ids) <= limit]
        results: Iterator[tuple[str, str]] = iter(())
        if fitting:
            width = max(map(len, fitting))
            pad = self.tokenizer.pad_token_id
            input_ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids in fitting], device=self.model.device)
            mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in fitting], device=self.model.device)
            torch.manual_seed(seed)
            with torch.inference_mode():
                output = self.model.generate(input_ids=input_ids, attention_mask=mask, **self._options(decoding))
            results = iter([self._finished(row) for row in output[:, width:].tolist()])
        return [next(results) if len(ids) <= limit else ("", TOO_LONG) for ids in prompts]

    def _finished(self, ids: list[int]) -> tuple[str, str]:
        stopped = self.tokenizer.eos_token_id in ids
        if stopped:
            ids = ids[: ids.index(self.tokenizer.eos_token_id)]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip(), "stop" if stopped else "length"

    def stream(self, turns: Sequence[Turn], decoding: Decoding, seed: int = 0) -> Iterator[str]:
        """Pieces of text as they are decoded. The oldest exchanges are left out where the history does not fit.

        ValueError where the last question alone is too long.
        """
        import torch
        from transformers import TextIteratorStreamer

        limit = self.max_positions - decoding.max_new_tokens
        ids, _ = prompt.fit_history(turns, self.tokenizer, self.template, limit)
        if not ids:
            raise ValueError(f"the question is longer than the {limit} tokens that this model can read; shorten it")
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=600)
        torch.manual_seed(seed)
        input_ids = torch.tensor([ids], device=self.model.device)
        options = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "streamer": streamer} | self._options(decoding)
        worker = Thread(target=self._generate, args=(options,), daemon=True)
        worker.start()
        yield from streamer
        worker.join()

    def _generate(self, options: dict[str, Any]) -> None:
        try:
            self.model.generate(**options)
        except BaseException:
            options["streamer"].end()  # else the reader would wait for its timeout
            raise

    def _options(self, decoding: Decoding) -> dict[str, Any]:
        options: dict[str, Any] = {
            "max_new_tokens": decoding.max_new_tokens,
            "min_new_tokens": decoding.min_new_tokens,
            "repetition_penalty": decoding.repetition_penalty,
            "do_sample": decoding.do_sample,
            "eos_token_id": self.tokenizer.eos_token_id,
            "pad_token_id": self.tokenizer.pad_token_id,
        }
        if decoding.do_sample:
            options |= {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": decoding.top_k}
        return options
