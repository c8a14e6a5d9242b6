"""A checkpoint that answers: many questions side by side for evaluation, a stream for chat."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from medchatzh import models, prompt
from medchatzh.models.decoding.batching import Batcher, Request
from medchatzh.models.decoding.sampling import Decoding
from medchatzh.records import Turn

__all__ = ["DEFAULT_SLOTS", "TOO_LONG", "Decoding", "Engine"]

TOO_LONG = "prompt_too_long"
DEFAULT_SLOTS = 64
"""Answers decoded side by side."""


class Engine:
    """A loaded checkpoint with its own tokenizer and prompt template. All that it decodes goes through `batcher`."""

    def __init__(self, checkpoint: Path, threads: int = 0, num_slots: int = DEFAULT_SLOTS, precision: str = "fp32") -> None:
        """`precision`: fp32, bf16, or auto for bf16 where the processor has it. ValueError where the folder holds no causal model."""
        models.require_torch()
        import torch

        models.set_threads(threads)
        self.tokenizer, self.template = models.load_tokenizer(checkpoint)
        model = models.load_causal(checkpoint)
        models.check_vocabulary(model, self.tokenizer, checkpoint)
        model.to(models.device(), torch.bfloat16 if models.is_bf16(precision) else torch.float32).eval()
        self.batcher = Batcher(model, self.tokenizer, num_slots)

    @property
    def max_positions(self) -> int:
        return self.batcher.max_positions

    def answer(
        self, dialogues: Sequence[Sequence[Turn]], decoding: Decoding, max_prompt_tokens: int, seed: int = 0
    ) -> list[tuple[str, str]]:
        """(answer, finish) to each dialogue's last turn. Each depends on its turns, the seed and the settings, not on its neighbours."""
        answers = dict(self.answers(dialogues, decoding, max_prompt_tokens, seed))
        return [answers[number] for number in range(len(dialogues))]

    def answers(
        self, dialogues: Sequence[Sequence[Turn]], decoding: Decoding, max_prompt_tokens: int, seed: int = 0
    ) -> Iterator[tuple[int, tuple[str, str]]]:
        """(number, (answer, finish)) of each dialogue as soon as it is answered; `finish` as in `Prediction`.

        It is TOO_LONG, with an empty answer, where all turns together do not fit: without its first ones it would be another question.
        ValueError, before anything is decoded, where a dialogue does not end with a user's turn.
        """
        limit = min(max_prompt_tokens, self._room(decoding))
        for turns in dialogues:
            prompt.check(turns, answered=False)
        requests: list[Request] = []
        numbers: list[int] = []
        for number, turns in enumerate(dialogues):
            ids = prompt.encode(turns, self.tokenizer, self.template).input_ids
            if len(ids) > limit:
                yield number, ("", TOO_LONG)
            else:
                requests.append(Request(input_ids=ids, decoding=decoding, seed=seed_of(seed, ids)))
                numbers.append(number)
        for place, generation in self.batcher.decode(requests):
            yield numbers[place], (generation.text.strip(), generation.finish)

    def _room(self, decoding: Decoding) -> int:
        """Tokens that a prompt may have. ValueError where the answer alone fills the model's context."""
        room = self.max_positions - decoding.max_new_tokens
        if room < 1:
            raise ValueError(f"max_new_tokens = {decoding.max_new_tokens} leaves no room for a question in {self.max_positions} positions")
        return room

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
        """Pieces of text as they are decoded, of whole characters. Closing the iterator stops the decoding."""
        generation = self.batcher.submit(Request(input_ids=ids, decoding=decoding, seed=seed, streamed=True))
        num_shown = 0
        try:
            while not generation.finish or len(generation.text) > num_shown:
                if len(generation.text) > num_shown:  # others' steps may have made it
                    start, num_shown = num_shown, len(generation.text)
                    yield generation.text[start:]
                else:
                    self.batcher.step()
        finally:
            self.batcher.cancel(generation)


def seed_of(seed: int, ids: Sequence[int]) -> int:
    """A seed a question: with one for all, all answers would be drawn with the same luck."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {ids}".encode(), digest_size=8).digest(), "little")
