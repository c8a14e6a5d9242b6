"""`pairwise.json`: what a language model's pairwise verdicts found, as typed data. Written by the judge stage, read by the report."""

from __future__ import annotations

import msgspec

FILE = "pairwise.json"


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share of `n`, with the 95 % interval of a bootstrap that resamples questions."""

    mean: float
    low: float
    high: float
    n: int


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """What the judge's verdicts are worth. A share is None where there is nothing to take it of."""

    num_verdicts: int
    num_unreadable: int
    unreadable: Share | None
    """Of all verdicts: those whose last line is not one of the three asked for."""
    agreement: Share | None
    """Of the pairs with two readable verdicts: those in which both places gave the same outcome."""
    first_position: Share | None
    """Of those pairs' verdicts that name a better answer: those that name the first. 0.5 is without bias, however good the answers are,
    since each stands first once."""
    outcomes: dict[str, int]
    """`main shown first / main shown second` → pairs, `win/loss` say; `unreadable` where it is."""


class Versus(msgspec.Struct, frozen=True, kw_only=True):
    """The main system against another one. A pair is won or lost where both verdicts say so, and else a tie (Zheng et al. 2023, 3.4)."""

    main: str
    other: str
    wins: int
    ties: int
    losses: int
    num_unreadable: int
    """Pairs with an unreadable verdict: in none of the three."""
    num_unpaired: int
    """Chosen questions that the other system has no answer to."""
    win: Share | None
    tie: Share | None
    loss: Share | None
    score: Share | None
    """Wins and half the ties: above 0.5 the main system is preferred."""
    reliability: Reliability


class Pairwise(msgspec.Struct, frozen=True, kw_only=True):
    """`pairwise.json`."""

    main: str
    signature: str
    prompt: str
    versus: tuple[Versus, ...]
    reliability: Reliability
    """Over all pairs of all systems."""
