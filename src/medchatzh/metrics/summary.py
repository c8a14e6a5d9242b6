"""`summary.json`: what an evaluation found, as typed data. Written by the evaluation, read by the report."""

from __future__ import annotations

from pathlib import Path

import msgspec

from medchatzh.contamination import CategoryOverlap
from medchatzh.metrics.published import PublishedRow
from medchatzh.metrics.statistics import Verdict

JUDGE = "judge"
"""Stands in `protocol` where a number is a reward model's, which uses no references."""


class Mean(msgspec.Struct, frozen=True, kw_only=True):
    """A system's mean over its `n` scored questions, with its interval (`metrics.statistics`)."""

    system: str
    protocol: str
    metric: str
    mean: float
    low: float
    high: float
    n: int


class CategoryMean(Mean, frozen=True, kw_only=True):
    """The same within one category of question. `small`: too few questions to say much."""

    category: str
    small: bool


class PairedDifference(msgspec.Struct, frozen=True, kw_only=True):
    """main − other over the `n` questions that both answered. `verdict` is about the main system, and follows `p_holm` and the interval."""

    main: str
    other: str
    protocol: str
    metric: str
    mean: float
    low: float
    high: float
    p_value: float
    """Of this comparison alone, by approximate randomisation. Never 0: 1 in 10,001 is the smallest, less in a table of over 100 rows."""
    p_holm: float = 1.0
    """Corrected for all comparisons of its table (Holm 1979): what to read among many. 1, which shows nothing, where nobody did so."""
    n: int
    verdict: Verdict


class CategoryDifference(PairedDifference, frozen=True, kw_only=True):
    """The same within one category of question. `small` as in `CategoryMean`."""

    category: str
    small: bool


class SeededDifference(msgspec.Struct, frozen=True, kw_only=True):
    """main − arm, each trained with several seeds, over the `n` questions that all of them answered (`metrics.statistics`)."""

    arm: str
    protocol: str
    metric: str
    mean: float
    low: float
    high: float
    """The interval holds both what other questions and what other seeds would change."""
    n: int
    by_seed: tuple[float, ...]
    """The difference with each seed."""


class RewardModel(msgspec.Struct, frozen=True, kw_only=True):
    """A reward model that judged."""

    metric: str
    """Its name in `means` and `scores.jsonl`: `reward`, `reward@second`."""
    fingerprint: str
    """Hash of its weights and settings."""
    filtered: bool | None
    """It filtered the training records too, so that its word for a model that they trained is none. None: that cannot be told."""


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What a system's scored answers look like. Characters are counted without white space."""

    system: str
    n: int
    empty: int
    """Answers without a character. They score 0."""
    cut: int
    """Answers that stopped at the length limit."""
    prompt_too_long: int
    """Questions that did not fit the model's context (among `empty`)."""
    mean_chars: float
    distinct_1: float
    """Different characters / all characters over all answers together, 0 to 1 (Li et al. 2016); a canned answer is near 0."""
    distinct_2: float
    """The same for pairs of adjacent characters."""


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the benchmark's questions: loaded = repeated + no_reference + scorable."""

    loaded: int
    repeated: int
    """Questions whose id came before."""
    no_reference: int
    """Questions without an answer to score against."""
    scorable: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All of an evaluation but the single scores (`scores.jsonl`). Text metrics are on a 0 to 100 scale.

    Rows come in the order of `systems`, then protocols, then metrics; reward rows have the protocol `judge`, last.
    """

    benchmark: tuple[str, ...] = ()
    """The sources of the questions, by the names that they may be shown under (`benchmarks.shown_name`)."""
    main: str
    """The system that the others are compared with: the first."""
    systems: tuple[str, ...]
    protocols: tuple[str, ...]
    """Protocols of the text metrics, by name in `metrics.protocols.PROTOCOLS`."""
    metrics: tuple[str, ...]
    """Text metrics in the order of print."""
    signatures: dict[str, dict[str, str]]
    """Protocol (`judge` for the reward) → metric → signature."""
    questions: Reconciliation
    num_resamples: int
    confidence: float
    min_category_size: int
    categories: dict[str, int]
    """Category → scorable questions, largest first. `all` where the benchmark has none; those under `min_category_size` as one, last."""
    merged: dict[str, int] = {}
    """The categories in that last one."""
    means: tuple[Mean, ...]
    by_category: tuple[CategoryMean, ...]
    """Under the first protocol (`strict` where it is used), and the reward. Largest category first, then by system."""
    differences: tuple[PairedDifference, ...]
    category_differences: tuple[CategoryDifference, ...] = ()
    """Under the protocols of `by_category`. By other system, then category."""
    clean: tuple[Mean, ...] = ()
    """The means over the questions that the training mix does not know; empty where it knows none, or all, or nobody looked."""
    overlap: tuple[CategoryOverlap, ...] = ()
    """What the training mix knows of the benchmark: of all questions, then by category."""
    ablations: tuple[SeededDifference, ...] = ()
    """Where arms were trained with several seeds."""
    judges: tuple[RewardModel, ...] = ()
    answers: tuple[Answers, ...]
    published: tuple[PublishedRow, ...]
    """The paper's table 1. Its protocol is unknown: show, do not rank."""


def load(path: Path) -> Summary:
    """Read a `summary.json`; ValueError where it is missing or another version's."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the evaluation first") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: not an evaluation's summary: {error}; run the evaluation again") from None
