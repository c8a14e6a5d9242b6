"""Claims: a ledger of the paper's statements, each checked: reproduced, contradicted, or cannot be checked here and what it would take.

The statements are data (`statements/*.toml`: quotation, place, question, what was found, what it would take), as are the constants that
they rest on (`facts.toml`, each with its place); a check is a small function of these and of what was measured on a benchmark and a run.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["claims"]


def claims(benchmark: Path | None = None, run: Path | None = None, *, as_json: bool = False) -> str:
    """What `medchatzh claims` prints. ValueError where `benchmark` holds no question, or `run` no finished stage."""
    from medchatzh.claims import facts, given, ledger, show
    from medchatzh.claims.world import World

    world = World(
        facts=facts.load(),
        benchmark=given.benchmark(benchmark) if benchmark else None,
        run=given.run(run) if run else None,
    )
    checked = ledger.check(world)
    return show.as_json(checked, world) if as_json else show.markdown(checked, world)
