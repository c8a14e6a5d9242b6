"""Reward → probability, learnt from rankings that the reward model was not trained on.

A reward has neither zero nor scale. `Calibration` gives it both: P(an answer of this score is preferred over another answer to the same
question) = σ((score − midpoint) / temperature), a logistic fit (Platt 1999) to held-out pairs: the better answer won, the worse lost.
`reliability` asks whether the model knows how sure it may be of a pair.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from medchatzh.records import read

HELD_OUT = "held_out.jsonl"
"""What the reward stage leaves for it: `Ranked` records."""
MIN_GROUPS = 50
"""With 50 pairs drawn from a Bradley–Terry model, what is called P = .5 was .47 to .53 in 95 % of 200 simulations; with 20, .44 to .56."""
NUM_BINS = 10
_RESAMPLES = 200


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A held-out ranking as the reward model sees it: `scores[i]` of the answer of rank `ranks[i]` (1 is best)."""

    id: str
    group: str
    """Rankings of one group (a case) are resampled together."""
    source: str
    scores: tuple[float, ...]
    ranks: tuple[int, ...]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    midpoint: float
    """Score of P = .5."""
    temperature: float
    """Score units a logit."""
    low: float
    high: float
    """Interval (95 %) of the score that P = `at` stands for; groups are resampled."""
    at: float
    log_loss: float
    """Nats a decision on the pairs it was fitted to; knowing nothing costs ln 2 = .693."""
    num_pairs: int
    num_groups: int

    def threshold(self, probability: float) -> float:
        """The score that has this probability."""
        return float(self.midpoint + self.temperature * np.log(probability / (1 - probability)))

    def probability(self, scores: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(scores - self.midpoint) / self.temperature))

    def facts(self) -> dict[str, Any]:
        return {name: round(value, 5) if isinstance(value, float) else value for name, value in msgspec.structs.asdict(self).items()}


def calibrate(ranked: Iterable[Ranked], probability: float, seed: int) -> Calibration:
    """Fit to held-out rankings; each ranking weighs the same. `probability` is the one whose score gets an interval.

    ValueError where there are fewer than `MIN_GROUPS` groups, or where better answers do not have higher scores.
    """
    groups: dict[str, list[tuple[float, float, float]]] = {}  # (better score, worse score, weight)
    for ranking in ranked:
        found = _pairs(ranking)
        groups.setdefault(ranking.group, []).extend((better, worse, 1 / len(found)) for better, worse in found)
    of_group = [np.array(pairs) for pairs in groups.values() if pairs]
    if len(of_group) < MIN_GROUPS:
        raise ValueError(
            f"score.kind = 'probability' needs held-out pairs of at least {MIN_GROUPS} groups, the reward stage left {len(of_group)}:"
            " raise reward.held_out, add rankings, or take 'quantile'"
        )
    pairs = np.concatenate(of_group)
    slope, shift = _logistic(pairs)
    draws = np.random.default_rng(seed).integers(0, len(of_group), (_RESAMPLES, len(of_group)))
    resampled = [_logistic(np.concatenate([of_group[group] for group in draw])) for draw in draws]
    if slope <= 0 or np.mean([found <= 0 for found, _ in resampled]) > 0.025:
        raise ValueError(
            "score.kind = 'probability': on its held-out pairs the reward model does not tell better answers from worse ones"
            f" (slope {slope:.3g}, its 95 % interval reaches 0): train it on more rankings, or take 'quantile'"
        )
    logit = float(np.log(probability / (1 - probability)))
    low, high = np.quantile([(logit - at) / found for found, at in resampled if found > 0], [0.025, 0.975])
    return Calibration(
        midpoint=-shift / slope,
        temperature=1 / slope,
        low=float(low),
        high=float(high),
        at=probability,
        log_loss=_log_loss(pairs, slope, shift),
        num_pairs=len(pairs),
        num_groups=len(of_group),
    )


def read_calibration(reward: Path, probability: float, seed: int) -> Calibration:
    """`calibrate` on what a reward stage left in its folder. ValueError where it left nothing."""
    return calibrate(read(reward / HELD_OUT, Ranked), probability, seed)


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """Whether, of the pairs said to be in the right order with probability p = σ(difference of scores / temperature), a share p is."""

    ece: float
    """Expected calibration error (Naeini 2015): |share right − mean probability| over bins of equally many pairs, weighted by pairs."""
    ece_by_chance: float
    """What a model whose every probability is true would show on so many pairs, on average: bins are small, an error never negative."""
    temperature: float | None
    """Score units a logit, fitted to all pairs (the error is measured with other ones); None where higher scores are not better."""
    curve: tuple[tuple[float, float, int], ...]
    """(mean probability, share right, pairs) of each bin."""

    def facts(self) -> dict[str, Any]:
        return {
            "ece": round(self.ece, 4),
            "ece_by_chance": round(self.ece_by_chance, 4),
            "temperature": None if self.temperature is None else round(self.temperature, 5),
            "curve": [[round(said, 4), round(right, 4), count] for said, right, count in self.curve],
        }


def reliability(ranked: Iterable[Ranked], seed: int) -> Reliability | None:
    """How well a temperature calibrates pairs it was not fitted to; None where fewer than two groups have pairs.

    The groups are halved by seed; the pairs of one half get their probabilities by the temperature of the other, both ways.
    """
    of_group: dict[str, list[np.ndarray]] = {}
    for ranking in ranked:
        found = [(better - worse) for better, worse in _pairs(ranking)]
        if found:
            of_group.setdefault(ranking.group, []).append(np.array([found, [1 / len(found)] * len(found)]))
    groups = [np.concatenate(parts, axis=1) for parts in of_group.values()]
    if len(groups) < 2:
        return None
    random = np.random.default_rng(seed)
    order = random.permutation(len(groups))
    halves = [np.concatenate([groups[number] for number in order[side::2]], axis=1) for side in (0, 1)]
    said = np.concatenate([_sigmoid(_slope(*fitted) * np.abs(measured[0])) for measured, fitted in zip(halves, halves[::-1], strict=True)])
    ahead = np.concatenate([half[0] for half in halves])
    curve = _bins(said, np.where(ahead == 0, 0.5, ahead > 0))
    drawn = [_error(_bins(said, random.random(len(said)) < said)) for _ in range(_RESAMPLES)]
    slope = _slope(*np.concatenate(halves, axis=1))
    return Reliability(ece=_error(curve), ece_by_chance=float(np.mean(drawn)), temperature=1 / slope if slope else None, curve=tuple(curve))


def _pairs(ranking: Ranked) -> list[tuple[float, float]]:
    """(score of the better, of the worse) of every pair; ties give none."""
    answers = list(zip(ranking.ranks, ranking.scores, strict=True))
    return [(better, worse) for rank, better in answers for lower, worse in answers if rank < lower]


def _bins(said: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """`NUM_BINS` of equally many pairs in the order of `said`, fewer where there are fewer pairs."""
    order = np.argsort(said, kind="stable")
    return [(float(said[each].mean()), float(right[each].mean()), len(each)) for each in np.array_split(order, min(NUM_BINS, len(order)))]


def _error(curve: list[tuple[float, float, int]]) -> float:
    return sum(abs(right - said) * count for said, right, count in curve) / sum(count for *_, count in curve)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(logits / 2))


def _slope(ahead: np.ndarray, weights: np.ndarray) -> float:
    """Logits a score unit, by Newton's method; 0 where higher scores are not better. Platt's target, as in `_logistic`, keeps it finite."""
    scale = max(float(np.abs(ahead).mean()), 1e-9)
    differences, target = ahead / scale, (weights.sum() + 1) / (weights.sum() + 2)
    slope = 0.0
    for _ in range(50):
        chances = _sigmoid(slope * differences)
        step = np.sum(weights * differences * (chances - target)) / (np.sum(weights * differences**2 * chances * (1 - chances)) + 1e-9)
        slope -= float(np.clip(step, -2, 2))
        if abs(step) < 1e-10:
            break
    return max(0.0, slope) / scale


def _logistic(pairs: np.ndarray) -> tuple[float, float]:
    """(slope, shift) of σ(slope · score + shift) by Newton's method on [num_pairs, 3] (better, worse, weight).

    Platt's targets (n + 1) / (n + 2) in place of 1 and 0 keep the slope finite where the scores separate all pairs.
    """
    better, worse, weight = pairs.T
    scores, weights = np.concatenate([better, worse]), np.concatenate([weight, weight])
    center, scale = scores.mean(), max(float(scores.std()), 1e-9)
    features = np.stack([(scores - center) / scale, np.ones_like(scores)])
    top = (weight.sum() + 1) / (weight.sum() + 2)
    targets = np.repeat([top, 1 - top], len(better))
    found = np.zeros(2)
    for _ in range(50):
        chances = 1 / (1 + np.exp(-found @ features))
        gradient = features @ (weights * (chances - targets))
        curvature = (features * (weights * chances * (1 - chances))) @ features.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        found -= step
        if np.abs(step).max() < 1e-10:
            break
    return float(found[0] / scale), float(found[1] - found[0] * center / scale)


def _log_loss(pairs: np.ndarray, slope: float, shift: float) -> float:
    better, worse, weight = pairs.T
    losses = np.logaddexp(0, -(slope * better + shift)) + np.logaddexp(0, slope * worse + shift)
    return float(np.sum(weight * losses) / (2 * weight.sum()))
