"""Checks against a benchmark or a finished run that was given."""

from __future__ import annotations

from medchatzh.benchmarks import PAPER_QUESTIONS
from medchatzh.claims.arithmetic import bleu
from medchatzh.claims.world import CANNOT, Finding, Floors, Means, Run, World, check, found

STRICT, FIVE = "strict", "medchatzh"
MIN_MEAN = 0.01
"""A mean below this (of 100) is taken for none: an order without a match leaves 1e-153 in an unsmoothed BLEU, and no ratio."""
MAX_SPREAD = 0.05
"""A rule that drops shares further apart than this under two readings is not one rule."""


@check("question-count")
def question_count(world: World) -> Finding | None:
    """The paper's script skips an id that came before; so the ids are counted."""
    given = world.benchmark
    if given is None:
        return None
    numbers = {"name": given.name, "loaded": given.sizes.num_loaded, "repeated": given.sizes.num_repeated, "ids": given.sizes.num_scored}
    if not given.is_official:
        return Finding(CANNOT, numbers)
    return found(given.sizes.num_scored == PAPER_QUESTIONS, **numbers)


@check("table2-classes")
def table2_classes(world: World) -> Finding | None:
    given = world.benchmark
    if given is None:
        return None
    known = [row for row in given.sizes.rows if row.agrees is not None]
    numbers = {"name": given.name, "num_known": len(known), "num_agreeing": sum(bool(row.agrees) for row in known)}
    if not given.is_official:
        return Finding(CANNOT, numbers)
    return found(len(known) == numbers["num_agreeing"] == world.facts.paper.num_domains.value, **numbers)


@check("candidates")
def candidates(world: World) -> Finding | None:
    given = world.benchmark
    if given is None:
        return None
    share = given.num_of_others / given.num_candidates if given.num_candidates else 0.0
    numbers = {"name": given.name, "num_candidates": given.num_candidates, "num_of_others": given.num_of_others, "share": share}
    return found(share < 0.5, **numbers) if given.num_candidates else Finding(CANNOT, numbers)


def _both(world: World) -> tuple[Floors, Floors] | None:
    """Floors under one reference and under several; None without a benchmark, further candidates, or a score in every floor."""
    if world.benchmark is None or not world.benchmark.num_candidates:
        return None
    strict, five = world.benchmark.floors[STRICT], world.benchmark.floors[FIVE]
    lowest = min(means["BLEU-1"] for one in (strict, five) for means in (one.canned, one.other))
    return (strict, five) if lowest >= MIN_MEAN else None


@check("five-references")
def five_references(world: World) -> Finding | None:
    """Table 1's lead over the copied rows, beside what the same answers gain where all candidates are references and not the own one alone.

    Ratios, so that another benchmark than the paper's can tell.
    """
    floors = _both(world)
    if floors is None or world.benchmark is None:
        return None
    own, (strict, five) = world.own_row.values, floors
    copied = {name: max(row.values[name] for row in world.table1 if world.is_copied(row)) for name in world.metrics}
    pairs = [(strict.canned, five.canned), (strict.other, five.other)]

    def gains(name: str) -> list[float]:
        return [many[name] / one[name] if one[name] >= MIN_MEAN else 0.0 for one, many in pairs]

    num_gained = sum(max(gains(name)) >= own[name] / copied[name] for name in world.metrics)
    canned, other = gains("BLEU-1")
    return found(
        2 * num_gained < len(world.metrics),
        name=world.benchmark.name,
        n=world.benchmark.num_sampled,
        num_metrics=len(world.metrics),
        num_gained=num_gained,
        num_reached=sum(max(five.canned[name], five.other[name]) >= own[name] for name in world.metrics),
        canned=canned,
        other=other,
        lead=own["BLEU-1"] / copied["BLEU-1"],
    )


def gleu_ratio(values: Means) -> float:
    """GLEU / mean precision of orders 1 to 4, brevity penalty included, as cumulative BLEU implies them: B_n^n / B_(n-1)^(n-1).

    As long as there is one reference both count the same matches; with more the ratio falls, as `arithmetic.gleu_bound` does, and it tells
    the two apart better: on 700 real questions the floors have 1.15 and 1.08 with one reference, .49 and .56 with five.
    """
    scores = [1.0, *bleu(values)]
    implied = [scores[n] ** n / scores[n - 1] ** (n - 1) if scores[n - 1] >= MIN_MEAN else 0.0 for n in range(1, len(scores))]
    return values["GLEU"] / (sum(implied) / len(implied))


@check("same-references")
def same_references(world: World) -> Finding | None:
    """Rows of table 1, each by the protocol whose floors have the nearer ratio of GLEU to BLEU (`gleu_ratio`)."""
    floors = _both(world)
    if floors is None:
        return None
    strict, five = ((gleu_ratio(one.canned) + gleu_ratio(one.other)) / 2 for one in floors)
    single = [row.system for row in world.table1 if abs(gleu_ratio(row.values) - strict) < abs(gleu_ratio(row.values) - five)]
    several = [row.system for row in world.table1 if row.system not in single]
    lists = {"single": ", ".join(single) or "–", "several": ", ".join(several) or "–"}
    return found(not single or not several, ratio_strict=strict, ratio_five=five, **lists)


@check("200-tokens")
def tokens_200(world: World) -> Finding | None:
    if world.run is None or not world.run.num_answers:
        return None
    shares = world.run.short
    listed = "; ".join(f"{share:.1%} {name}" for name, share in shares.items())
    agrees = max(shares.values()) - min(shares.values()) <= MAX_SPREAD
    return found(agrees, name=world.run.name, n=world.run.num_answers, shares=listed)


@check("reward-0.5")
def reward_threshold(world: World) -> Finding | None:
    """A reward model trained on differences has no zero: adding a constant changes neither its loss nor any ranking."""
    if world.run is None or not world.run.num_rewards:
        return None
    threshold = world.facts.paper.threshold.value
    kept, fewer, more = (share_above(world.run, threshold + shift) for shift in (0.0, 1.0, -1.0))
    numbers = {"name": world.run.name, "n": world.run.num_rewards, "kept": kept, "fewer": fewer, "more": more}
    return found(more - fewer <= MAX_SPREAD, **numbers)


def share_above(run: Run, threshold: float) -> float:
    """The share of rewards at or above a threshold, from the quantiles, linearly between them."""
    import numpy as np

    quantiles = run.reward_quantiles
    return float(1 - np.interp(threshold, quantiles, np.linspace(0, 1, len(quantiles)), left=0, right=1))
