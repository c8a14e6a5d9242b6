"""Beam search as transformers 4.30 does it, the version that BenTsao pins.

Later versions find other answers: since 4.36 (pull requests 27351 and 27808) a beam's score is divided by the number of new tokens, up
to 4.35 by the length of prompt and answer without EOS. The longer the prompt, the less a long answer gains by that: another beam wins.
"""

from __future__ import annotations

from collections.abc import Sequence

from medchatzh import models


def search(model: models.Model, prompt_ids: Sequence[int], num_beams: int, max_new_tokens: int, eos_id: int) -> list[int]:
    """The new ids of the best beam, with EOS where it has one. Greedy choice of beams, length penalty 1, no early stopping."""
    import torch

    tokens = torch.tensor([list(prompt_ids)] * num_beams, device=model.device)
    scores = torch.full((num_beams, 1), -1e9, device=model.device)
    scores[0] = 0  # all beams are equal at first: one of them counts
    beams: list[list[int]] = [[] for _ in range(num_beams)]
    best = _Best(num_beams)
    cache = None
    with torch.inference_mode():
        for length in range(len(prompt_ids), len(prompt_ids) + max_new_tokens):
            output = model(input_ids=tokens, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            totals = torch.log_softmax(output.logits[:, -1].float(), dim=-1) + scores
            values, places = totals.flatten().topk(2 * num_beams)
            chosen: list[tuple[float, int, int]] = []
            for rank, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
                beam, token = divmod(place, totals.shape[1])
                if token == eos_id:
                    if rank < num_beams:
                        best.add(value / length, [*beams[beam], eos_id])
                elif len(chosen) < num_beams:
                    chosen.append((value, beam, token))
            beams = [[*beams[beam], token] for _, beam, token in chosen]
            if best.worst_is_at_least(float(values[0]) / length):
                return best.first()
            rows = torch.tensor([beam for _, beam, _ in chosen], device=model.device)
            cache.reorder_cache(rows)
            tokens = torch.tensor([[token] for _, _, token in chosen], device=model.device)
            scores = torch.tensor([[value] for value, _, _ in chosen], device=model.device)
    for (value, _, _), beam in zip(chosen, beams, strict=True):
        best.add(value / (len(prompt_ids) + max_new_tokens), beam)
    return best.first()


class _Best:
    """The finished beams with the best scores, at most `size`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._beams: list[tuple[float, list[int]]] = []

    def add(self, score: float, beam: list[int]) -> None:
        if len(self._beams) == self._size:
            if score <= min(self._beams, key=_score)[0]:
                return
            self._beams.remove(min(self._beams, key=_score))
        self._beams.append((score, beam))

    def worst_is_at_least(self, score: float) -> bool:
        return len(self._beams) == self._size and min(self._beams, key=_score)[0] >= score

    def first(self) -> list[int]:
        return sorted(self._beams, key=_score)[-1][1]  # the last of equal ones, as there


def _score(entry: tuple[float, list[int]]) -> float:
    return entry[0]
