"""What a check that cannot be made here would take: GPU hours by arithmetic, not by measurement."""

from __future__ import annotations

from medchatzh.benchmarks import PAPER_QUESTIONS
from medchatzh.claims.repository import num_parameters
from medchatzh.claims.world import World

BOOK_TOKENS = 1e8
"""1,000 books; the 640 of a public collection have 83 million characters, at 1.3 characters a token."""


def costs(world: World) -> dict[str, float]:
    """Names that the ledger's texts use → hours of one A800 (`…_hours`), or gigabytes (`…_gb`)."""
    facts = world.facts
    parameters = num_parameters(world)
    records = facts.paper.medical.value + facts.paper.general.value
    rate = facts.hardware.flops.value * facts.hardware.utilisation.value * 3600

    def training(tokens: float) -> float:
        return 6 * parameters * tokens / rate  # forward 2, backward 4 operations a parameter and token

    # one answer after the other reads all weights for each token, in 16 bits
    alone = PAPER_QUESTIONS * facts.hardware.max_new_tokens.value * 2 * parameters / facts.hardware.bytes_per_s.value / 3600
    return {
        "sft_low_hours": training(records * facts.paper.min_tokens.value),
        "sft_high_hours": training(records * facts.paper.context.value),
        "books_hours": training(BOOK_TOKENS),
        "answers_hours": alone,
        "weights_gb": 2 * parameters / 1e9,
    }
