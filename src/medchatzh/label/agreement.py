"""How far labellers agree on rankings: Kendall's W, Krippendorff's alpha, and pairs of answers in the same order.

n answers of a task, m labellers. Rankings are any numbers of which lower is better; equal ones are ties.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple


def midranks(ranking: Sequence[float]) -> list[float]:
    """Ranks of which ties share the mean, so that they sum up to n(n + 1)/2 whatever is tied."""
    return [sum(other < value for other in ranking) + (sum(other == value for other in ranking) + 1) / 2 for value in ranking]


def kendall_w(rankings: Sequence[Sequence[float]]) -> float | None:
    """Kendall's coefficient of concordance of m ≥ 2 rankings, corrected for ties (Kendall 1948): 1 all agree. None where all are all ties.

    By chance it is 1/m, not 0: see it beside that.
    """
    num, size = len(rankings), len(rankings[0])
    ranked = [midranks(ranking) for ranking in rankings]
    sums = [sum(of_answer) for of_answer in zip(*ranked, strict=True)]
    spread = sum((total - num * (size + 1) / 2) ** 2 for total in sums)
    ties = sum(count**3 - count for ranking in rankings for count in Counter(ranking).values())
    most = num**2 * (size**3 - size) - num * ties
    return 12 * spread / most if most else None


def krippendorff_alpha(units: Iterable[Sequence[float]]) -> float | None:
    """Krippendorff's alpha for ordinal values, of any number of labellers a unit: 1 all agree, 0 chance, below 0 they oppose each other.

    A unit is what its labellers said of one thing; those of fewer than two are left out. None where nothing differs at all. After
    Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, section E.
    """
    paired = [unit for unit in units if len(unit) > 1]
    num_of = Counter(value for unit in paired for value in unit)
    total = sum(num_of.values())
    values = sorted(num_of)
    below = {value: sum(num_of[other] for other in values if other < value) + num_of[value] / 2 for value in values}

    def apart(one: float, other: float) -> float:
        return (below[one] - below[other]) ** 2

    observed = sum(2 * apart(*pair) / (len(unit) - 1) for unit in paired for pair in combinations(unit, 2))
    expected = sum(2 * num_of[one] * num_of[other] * apart(one, other) for one, other in combinations(values, 2))
    return 1 - (total - 1) * observed / expected if expected else None


class Orders(NamedTuple):
    """Pairs of answers as two labellers order them."""

    same: int
    """Also where both say that they are equal."""
    opposite: int
    half: int
    """Equal for one of the two only."""

    @property
    def net(self) -> float:
        """(same − opposite) / all: 1 the same ranking, −1 the opposite, 0 chance (for rankings without ties Kendall's tau)."""
        return (self.same - self.opposite) / max(sum(self), 1)

    def plus(self, other: Orders) -> Orders:
        return Orders(*(one + more for one, more in zip(self, other, strict=True)))


def orders(first: Sequence[float], second: Sequence[float]) -> Orders:
    """How two rankings of the same answers order its pairs."""
    found: Counter[str] = Counter()
    for one, other in combinations(range(len(first)), 2):
        ways = [(ranking[one] > ranking[other]) - (ranking[one] < ranking[other]) for ranking in (first, second)]
        found["same" if ways[0] == ways[1] else "half" if 0 in ways else "opposite"] += 1
    return Orders(found["same"], found["opposite"], found["half"])


def net_agreement(rankings: Sequence[Sequence[float]]) -> float | None:
    """Mean of `Orders.net` over pairs of labellers; None for fewer than two."""
    pairs = [orders(*pair).net for pair in combinations(rankings, 2)]
    return sum(pairs) / len(pairs) if pairs else None
