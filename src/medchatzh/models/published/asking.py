"""A baseline's checkpoint that answers: its own prompt and reading (`baselines`) around our decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from medchatzh import models
from medchatzh.models.decoding.batching import Request
from medchatzh.models.decoding.engine import DEFAULT_SLOTS, TOO_LONG, Engine, seed_of
from medchatzh.models.published import baselines, beams
from medchatzh.models.published.baselines import Baseline
from medchatzh.records import Turn


class Asker:
    """A loaded checkpoint, asked as the baseline's own code asks it."""

    def __init__(self, chosen: Baseline, checkpoint: Path, threads: int = 0, num_slots: int = DEFAULT_SLOTS) -> None:
        """`checkpoint`: a whole one, so what `adapters.merge` or `deltas.apply` has made. ValueError where the folder holds none."""
        if chosen.decoding is None or chosen.reached == "endpoint":
            raise ValueError(f"baseline {chosen.name}: has no checkpoint that runs here; reach it over an endpoint")
        self.baseline = chosen
        self._decoding = chosen.decoding
        if chosen.num_beams > 1:
            models.require_torch()
            models.set_threads(threads)
            self.tokenizer, _ = models.load_tokenizer(checkpoint)
            self._model = models.load_causal(checkpoint)
            models.check_vocabulary(self._model, self.tokenizer, checkpoint)
            self._model.to(models.device()).eval()
            self._max_positions = int(self._model.config.max_position_embeddings)
        else:
            engine = Engine(checkpoint, threads, num_slots)
            self.tokenizer, self._batcher, self._max_positions = engine.tokenizer, engine.batcher, engine.max_positions

    def answers(self, dialogues: Sequence[Sequence[Turn]], seed: int = 0) -> Iterator[tuple[int, tuple[str, str]]]:
        """(number, (answer, finish)) of each dialogue's last question as it is answered; `finish` is TOO_LONG where there is no room."""
        prompts: dict[int, list[int]] = {}
        for number, turns in enumerate(dialogues):
            ids = baselines.ids(self.baseline, turns, self.tokenizer)
            if len(ids) + self._decoding.max_new_tokens > self._max_positions:
                yield number, ("", TOO_LONG)
            else:
                prompts[number] = ids
        for number, new_ids, finish in self._searched(prompts) if self.baseline.num_beams > 1 else self._decoded(prompts, seed):
            yield number, (baselines.answer(self.baseline, dialogues[number], new_ids, self.tokenizer), finish)

    def _decoded(self, prompts: dict[int, list[int]], seed: int) -> Iterator[tuple[int, list[int], str]]:
        numbers = list(prompts)
        requests = (Request(input_ids=ids, decoding=self._decoding, seed=seed_of(seed, ids)) for ids in prompts.values())
        for place, generation in self._batcher.decode(requests):
            yield numbers[place], generation.ids, generation.finish

    def _searched(self, prompts: dict[int, list[int]]) -> Iterator[tuple[int, list[int], str]]:
        eos = self.tokenizer.eos_token_id
        for number, ids in prompts.items():
            new_ids = beams.search(self._model, ids, self.baseline.num_beams, self._decoding.max_new_tokens, eos)
            yield number, new_ids, "stop" if new_ids[-1] == eos else "length"
