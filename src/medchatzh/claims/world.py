"""What a check looks at, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from medchatzh.benchmarks import TABLE_2, SizeClass, Table2
from medchatzh.claims.facts import Facts
from medchatzh.metrics.published import METRICS, TABLE_1, PublishedRow

Verdict = Literal["reproduced", "contradicted", "cannot be checked here"]
REPRODUCED: Verdict = "reproduced"
CONTRADICTED: Verdict = "contradicted"
CANNOT: Verdict = "cannot be checked here"

Means = dict[str, float]
"""Metric → mean over the questions, 0 to 100."""


class Floors(msgspec.Struct, frozen=True, kw_only=True):
    """What answers that need no model score under one protocol."""

    canned: Means
    other: Means
    """The answer to another question."""
    num_references: float
    """Mean number of references a question."""


class Benchmark(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements on the questions that were given."""

    name: str
    sizes: Table2
    num_official: int
    """Questions of which the publishers' webMedQA consists; the file is that benchmark if it holds as many."""
    num_candidates: int
    """Candidate answers that are not marked as the question's own."""
    num_of_others: int
    """Those of them that stand in the same file as another question's own answer."""
    num_sampled: int
    """Questions on which the floors were scored."""
    floors: dict[str, Floors]
    """Protocol → floors."""

    @property
    def is_official(self) -> bool:
        return self.num_official in (self.sizes.num_loaded, self.sizes.num_own_answers)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements on a finished run."""

    name: str
    num_answers: int
    """General answers as they were read."""
    short: dict[str, float]
    """Way of counting → share of them with fewer than 200."""
    num_rewards: int
    reward_quantiles: tuple[float, ...]
    """Rewards of the medical records, lowest to highest at equal shares."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that checks read."""

    facts: Facts
    table1: tuple[PublishedRow, ...] = TABLE_1
    table2: tuple[SizeClass, ...] = TABLE_2
    metrics: tuple[str, ...] = METRICS
    benchmark: Benchmark | None = None
    run: Run | None = None

    @property
    def own_row(self) -> PublishedRow:
        """Table 1's row of the authors' own model."""
        return next(row for row in self.table1 if row.system.startswith(self.facts.paper.own.value))

    def is_copied(self, row: PublishedRow) -> bool:
        return row.system.startswith(tuple(self.facts.paper.copied.value))


class Finding(NamedTuple):
    """A verdict and the numbers that it rests on; the ledger's templates name them."""

    verdict: Verdict
    numbers: dict[str, Any]


Check = Callable[[World], Finding | None]
"""None: what the check needs was not given."""

CHECKS: dict[str, Check] = {}
"""Claim → its check. Claims without one cannot be checked here."""


def check(claim: str) -> Callable[[Check], Check]:
    """Registers the check of a claim."""

    def register(function: Check) -> Check:
        assert claim not in CHECKS, claim
        CHECKS[claim] = function
        return function

    return register


def found(agrees: bool, **numbers: Any) -> Finding:
    """`reproduced` or `contradicted`, with the numbers."""
    return Finding(REPRODUCED if agrees else CONTRADICTED, numbers)
