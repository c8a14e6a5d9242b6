"""Checks of the paper against itself: sizes, and the arithmetic of its tables."""

from __future__ import annotations

from medchatzh.benchmarks import LARGEST, PAPER_QUESTIONS, PUBLISHED_QUESTIONS, SIZES, SMALLEST, SizeClass
from medchatzh.claims.world import Finding, Means, World, check, found

_BLEU = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")


@check("mix-2m")
def mix_2m(world: World) -> Finding:
    paper = world.facts.paper
    total = paper.medical.value + paper.general.value
    return found(round(total / 1e6) == paper.mix_millions.value, total=total, share=paper.medical.value / total)


@check("raw-7m")
def raw_7m(world: World) -> Finding:
    paper, repository = world.facts.paper, world.facts.repository
    agrees = (
        round(paper.raw_medical.value / 1e6) == repository.raw_millions.value
        and round(paper.medical.value / 1e3) == repository.medical_thousands.value
    )
    return found(agrees, share=paper.medical.value / paper.raw_medical.value)


@check("general-pool")
def general_pool(world: World) -> Finding:
    paper = world.facts.paper
    return found(paper.general.value <= paper.raw_general.value, share=paper.general.value / paper.raw_general.value)


@check("table1-best")
def table1_best(world: World) -> Finding:
    best = {name: max(row.values[name] for row in world.table1) for name in world.metrics}
    num_best = sum(world.own_row.values[name] == best[name] for name in world.metrics)
    return found(num_best == len(world.metrics), num_best=num_best, num_metrics=len(world.metrics))


@check("bleu-falls")
def bleu_falls(world: World) -> Finding:
    falling = [row.system for row in world.table1 if bleu(row.values) == sorted(bleu(row.values), reverse=True)]
    return found(len(falling) == len(world.table1), num_falling=len(falling), num_rows=len(world.table1))


def bleu(values: Means) -> list[float]:
    """BLEU-1 to BLEU-4."""
    return [values[name] for name in _BLEU]


@check("bleu-order")
def bleu_order(world: World) -> Finding:
    """Bigrams found / characters found, read from BLEU both ways, beside ROUGE-2/ROUGE-1, which is the same thing measured otherwise."""
    num_single = 0
    for row in world.table1:
        single = row.values["BLEU-2"] / row.values["BLEU-1"]
        rouge = row.values["ROUGE-2"] / row.values["ROUGE-1"]
        num_single += abs(single - rouge) < abs(single**2 - rouge)
    own = world.own_row.values
    single = own["BLEU-2"] / own["BLEU-1"]
    numbers = {"num_rows": len(world.table1), "num_cumulative": len(world.table1) - num_single, "single": single, "cumulative": single**2}
    return found(num_single > len(world.table1) / 2, **numbers, rouge=own["ROUGE-2"] / own["ROUGE-1"])


@check("rouge-bounds")
def rouge_bounds(world: World) -> Finding:
    """A common bigram holds two common unigrams, and a common subsequence is made of them."""
    fitting = [row for row in world.table1 if max(row.values["ROUGE-2"], row.values["ROUGE-L"]) <= row.values["ROUGE-1"]]
    return found(len(fitting) == len(world.table1), num_fitting=len(fitting), num_rows=len(world.table1))


def gleu_bound(values: Means) -> float:
    """4 GLEU / BLEU-1: at least 1 for means of sentence scores of the same tokens against one reference, whatever the smoothing.

    Of h tokens against r with m in common, GLEU counts at least these m among at most 4 max(h, r) n-grams of orders 1 to 4. BLEU-1 is m/h,
    times e^(1 - r/h) where r > h, and that is at most h/r: so at most m / max(h, r). With several references BLEU-1 adds the matches of
    all of them, GLEU takes the best one, and the bound falls.
    """
    return 4 * values["GLEU"] / values["BLEU-1"]


@check("one-reference")
def one_reference(world: World) -> Finding:
    copied = [gleu_bound(row.values) for row in world.table1 if world.is_copied(row)]
    run = [gleu_bound(row.values) for row in world.table1 if not world.is_copied(row)]
    num_below = sum(bound < 1 for bound in copied + run)
    numbers = {"copied_low": min(copied), "copied_high": max(copied), "run_low": min(run), "run_high": max(run)}
    return found(not num_below, num_below=num_below, num_rows=len(world.table1), **numbers)


@check("23-domains")
def domains_23(world: World) -> Finding:
    names = {name for size in world.table2 for name in size.categories}
    num_named = sum(len(size.categories) for size in world.table2)
    agrees = len(names) == num_named == world.facts.paper.num_domains.value
    return found(agrees, sizes=" + ".join(f"{len(size.categories)}" for size in world.table2), num_named=num_named)


@check("table2-bounds")
def table2_bounds(world: World) -> Finding:
    """63,255 questions must fit between the least and the most that table 2 and its caption allow."""
    low = high = 0
    for size in world.table2:
        for name in size.categories:
            fewest, most = _bounds(name, size)
            low += fewest
            high += min(most, PAPER_QUESTIONS)
    return found(low <= PAPER_QUESTIONS <= high, low=low, high=high, questions=PAPER_QUESTIONS)


def _bounds(name: str, size: SizeClass) -> tuple[int, int]:
    if name == SMALLEST[0]:
        return SMALLEST[1], SMALLEST[1]
    return max(size.least, SMALLEST[1], LARGEST[1] if name == LARGEST[0] else 0), size.below


@check("63284")
def questions_63284(world: World) -> Finding:
    splits = SIZES["webMedQA"]
    agrees = sum(splits.values()) == world.facts.paper.huatuo_questions.value == PUBLISHED_QUESTIONS
    return found(agrees, sum=" + ".join(f"{size:,}" for size in splits.values()), total=sum(splits.values()))


@check("held-out")
def held_out(world: World) -> Finding:
    """The questions scored are more than the test split has: the training split is among them."""
    splits = SIZES["webMedQA"]
    outside = max(0, PAPER_QUESTIONS - splits["test"])
    return found(not outside, test=splits["test"], questions=PAPER_QUESTIONS, share=outside / PAPER_QUESTIONS)


@check("tcm-benchmark")
def tcm_benchmark(world: World) -> Finding:
    (size,) = (size for size in world.table2 if "TMC" in size.categories)
    most = size.below / PAPER_QUESTIONS
    return found(most > 0.5, least=size.least / PAPER_QUESTIONS, most=most)
