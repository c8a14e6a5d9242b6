"""Continuous batching: requests join and leave a running batch, each with its own limits, stops and seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from medchatzh.models import Model
from medchatzh.models.decoding.detokenize import TextStream
from medchatzh.models.decoding.sampling import Decoding, Row, choose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SLOTS = 256
_ROOM_STEP = 128
"""Positions a slot are reserved in multiples of this."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to decode. The tokens depend on these fields and the model, and on nothing that is decoded beside."""

    input_ids: list[int]
    decoding: Decoding
    seed: int = 0
    """Where `decoding.do_sample`: requests that are equal but for it are answered independently."""
    stop_ids: tuple[int, ...] | None = None
    """Ids that end the answer; None for the EOS of tokenizer and model, () for none."""
    stop_texts: tuple[str, ...] = ()
    """Texts that end the answer and are no part of it."""
    streamed: bool = False
    """Whether `Generation.text` grows with every token (some 5 % dearer), instead of being there at the end."""


class Generation:
    """A request under way, or done."""

    def __init__(self, request: Request, stop_ids: tuple[int, ...], tokenizer: PreTrainedTokenizerBase) -> None:
        self.request = request
        self.ids: list[int] = []
        """New ids so far, with the one that ended them."""
        self.text = ""
        """Text of `ids`, without special tokens."""
        self.finish = ""
        """`stop`, `length` (max_new_tokens reached) or `cancelled`; empty while under way."""
        self.slot = -1
        self.num_cached = 0
        """Tokens of prompt and answer whose keys and values lie in the slot."""
        self._tokenizer = tokenizer
        self._stop_ids = stop_ids
        self._stream = TextStream(tokenizer, request.stop_texts) if request.streamed or request.stop_texts else None
        self._sequence = np.zeros(len(request.input_ids) + request.decoding.max_new_tokens, np.int64)
        self._sequence[: len(request.input_ids)] = request.input_ids
        # Drawn ahead, one a token: the third token has the third draw, whenever its turn comes.
        self._draws = np.random.default_rng(request.seed).random(request.decoding.max_new_tokens)

    @property
    def sequence(self) -> np.ndarray:
        """[T] int64: prompt and answer so far."""
        return self._sequence[: len(self.request.input_ids) + len(self.ids)]

    def row(self) -> Row:
        """What the next token depends on."""
        num_new = len(self.ids)
        return Row(self.request.decoding, self.sequence, num_new, float(self._draws[num_new]), self._stop_ids)

    def add(self, token: int) -> None:
        """Append a token, and finish where it is the last."""
        self._sequence[len(self.sequence)] = token
        self.ids.append(token)
        stopped = token in self._stop_ids
        if self._stream and not stopped:
            self._stream.push(token)
            self.text = self._stream.text
            stopped = self._stream.stopped
        if stopped or len(self.ids) == self.request.decoding.max_new_tokens:
            self.end("stop" if stopped else "length")

    def end(self, finish: str) -> None:
        """Finish with the tokens that there are."""
        self.finish = finish
        if self._stream:
            self._stream.finish()
            self.text = self._stream.text
        else:
            ids = self.ids[:-1] if self.ids and self.ids[-1] in self._stop_ids else self.ids
            self.text = str(self._tokenizer.decode(ids, skip_special_tokens=True))


class Batcher:
    """Decodes requests in at most `num_slots` slots, side by side; memory grows with the slots and positions in use."""

    def __init__(self, model: Model, tokenizer: PreTrainedTokenizerBase, num_slots: int) -> None:
        """Takes the model over (see `SlotModel`). ValueError where it cannot be decoded in slots."""
        from medchatzh.models.decoding.slots import SlotModel

        if not 1 <= num_slots <= MAX_SLOTS:
            raise ValueError(f"slots must be between 1 and {MAX_SLOTS}, not {num_slots}")
        self.num_slots = num_slots
        eos = getattr(model.generation_config, "eos_token_id", None)
        known = eos if isinstance(eos, list) else [eos]
        possible = range(model.config.vocab_size)  # some configurations name an EOS that the vocabulary does not have
        self._stop_ids = tuple(sorted({token for token in (tokenizer.eos_token_id, *known) if token in possible}))
        self._tokenizer = tokenizer
        self._model = SlotModel(model)
        self._free = list(range(num_slots))
        self._waiting: deque[Generation] = deque()
        self._running: list[Generation] = []

    @property
    def max_positions(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._model.max_positions

    def submit(self, request: Request) -> Generation:
        """Queue a request; `step` decodes it. ValueError where it has no prompt or no room."""
        num_tokens = len(request.input_ids) + request.decoding.max_new_tokens
        if not request.input_ids or num_tokens > self.max_positions:
            raise ValueError(
                f"a prompt of {len(request.input_ids)} tokens and max_new_tokens = {request.decoding.max_new_tokens}:"
                f" the prompt must have a token, and both together at most {self.max_positions}"
            )
        stop_ids = self._stop_ids if request.stop_ids is None else request.stop_ids
        generation = Generation(request, stop_ids, self._tokenizer)
        self._waiting.append(generation)
        return generation

    def cancel(self, generation: Generation) -> None:
        """Take a request out, whether it waits or runs; nothing happens where it is done."""
        if not generation.finish:
            generation.end("cancelled")
            if generation in self._waiting:
                self._waiting.remove(generation)
            self._leave()

    def step(self) -> list[Generation]:
        """Read what fits of the prompts and decode one token of every answer; those that got one. Empty where there is nothing to do."""
        from medchatzh.models.decoding.slots import PIECE_TOKENS, Piece

        self._join()
        pieces: list[Piece] = []
        owners: list[Generation] = []
        wanted: list[int] = []
        room = self._model.sizes[-1]
        for generation in sorted(self._running, key=_is_prompt):
            start, sequence = generation.num_cached, generation.sequence
            while start < len(sequence) and (size := min(PIECE_TOKENS, len(sequence) - start)) <= room:
                pieces.append(Piece(generation.slot, start, sequence[start : start + size].tolist()))
                owners.append(generation)
                start, room = start + size, room - size
            if start == len(sequence):
                wanted.append(len(pieces) - 1)
        if not pieces:
            return []
        logits = self._model.forward(pieces, wanted)
        advanced = [owners[number] for number in wanted]
        tokens = choose(logits, [generation.row() for generation in advanced])
        for piece, generation in zip(pieces, owners, strict=True):
            generation.num_cached += len(piece.ids)
        for generation, token in zip(advanced, tokens, strict=True):
            generation.add(token)
        self._leave()
        return advanced

    def decode(self, requests: Iterable[Request]) -> Iterator[tuple[int, Generation]]:
        """(number, generation) of each request as it finishes. Requests are taken when slots are free; closing the iterator cancels."""
        numbered = enumerate(requests)
        numbers: dict[Generation, int] = {}
        try:
            while True:
                while len(numbers) < self.num_slots and (following := next(numbered, None)):
                    numbers[self.submit(following[1])] = following[0]
                if not numbers:
                    return
                self.step()
                for generation in [each for each in numbers if each.finish]:  # others' steps may have ended it
                    yield numbers.pop(generation), generation
        finally:
            for generation in numbers:
                self.cancel(generation)

    def _join(self) -> None:
        num_positions = 0
        while self._waiting and self._free:
            generation = self._waiting.popleft()
            generation.slot = heappop(self._free)
            self._running.append(generation)
            num_positions = max(num_positions, len(generation.request.input_ids) + generation.request.decoding.max_new_tokens)
        if num_positions:
            num_slots = 1 << max(generation.slot for generation in self._running).bit_length()
            self._model.reserve(min(num_slots, self.num_slots), -(-num_positions // _ROOM_STEP) * _ROOM_STEP)

    def _leave(self) -> None:
        for generation in self._running:
            if generation.finish:
                heappush(self._free, generation.slot)
        self._running = [generation for generation in self._running if not generation.finish]


def _is_prompt(generation: Generation) -> bool:
    return not generation.ids
