"""A checkpoint that answers: batches for evaluation, a stream for chat. transformers does the decoding."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
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

        limit = min(max_prompt_tokens, self._room(decoding))
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

    def _room(self, decoding: Decoding) -> int:
        """Tokens that a prompt may have. ValueError where the answer alone fills the model's context."""
        room = self.max_positions - decoding.max_new_tokens
        if room < 1:
            raise ValueError(f"max_new_tokens = {decoding.max_new_tokens} leaves no room for a question in {self.max_positions} positions")
        return room

    def _finished(self, ids: list[int]) -> tuple[str, str]:
        stopped = self.tokenizer.eos_token_id in ids
        if stopped:
            ids = ids[: ids.index(self.tokenizer.eos_token_id)]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip(), "stop" if stopped else "length"

    def prompt(self, turns: Sequence[Turn], decoding: Decoding) -> tuple[list[int], int]:
        """(ids, exchanges left out): the conversation's prompt, without its oldest exchanges where it is too long.

        ValueError where the last question alone is too long.
        """
        room = self._room(decoding)
        ids, num_left_out = prompt.fit_history(turns, self.tokenizer, self.template, room)
        if not ids:
            raise ValueError(f"the question is longer than the {room} tokens that this model can read; shorten it")
        return ids, num_left_out

    def stream(self, ids: list[int], decoding: Decoding, seed: int = 0) -> Generator[str, None, None]:
        """Pieces of text as they are decoded. Closing the iterator stops the decoding."""
        import torch
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        stopped = Event()
        failures: list[BaseException] = []
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=600)
        input_ids = torch.tensor([ids], device=self.model.device)

        def stop(sequences: torch.Tensor, _: Any) -> torch.Tensor:
            return torch.full((len(sequences),), stopped.is_set(), device=sequences.device)

        def work() -> None:
            try:
                self.model.generate(
                    input_ids=input_ids,
                    attention_mask=torch.ones_like(input_ids),
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([stop]),
                    **self._options(decoding),
                )
            except Exception as error:
                failures.append(error)
                streamer.end()  # else the reader would wait for its timeout

        torch.manual_seed(seed)
        worker = Thread(target=work, daemon=True)
        worker.start()
        try:
            yield from streamer
        finally:  # also where the reader leaves early (Ctrl-C): the model must be free for the next question
            stopped.set()
            worker.join()
        if failures:
            raise ValueError(f"decoding failed: {failures[0]}") from failures[0]

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
