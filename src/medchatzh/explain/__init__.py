"""Explain: what happened to a record, stage by stage, and why; or what would happen to a text.

Reads what the stages left behind and changes nothing. A record is found by a search of bytes, and curation of that one record is done once
more, slowly, to tell which repair changed what and which thresholds a rule looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medchatzh.explain import files
from medchatzh.explain.story import Story
from medchatzh.explain.trace import Tracer
from medchatzh.records import Pool

__all__ = ["explain"]


def explain(
    run: Path,
    query: str,
    *,
    is_text: bool = False,
    arm: str = "",
    question: str = "",
    pool: Pool = "medical",
    verbose: bool = False,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
) -> list[Story]:
    """What is to be told of `query` in a run folder or under a recipe: an id or FILE:LINE (maybe of several records), or a text.

    A text (what looks like no row, or anything with `is_text`) is judged as an answer to `question`. ValueError where a query that looks
    like an id names nothing, with what is near.
    """
    if run.is_dir() and overrides:
        raise ValueError(f"--set {overrides[0]}: changes a recipe, and {run} is a run folder; give the recipe")
    folders, config = (files.of_folder(run, arm), None) if run.is_dir() else files.of_recipe(run, overrides, runs, arm)
    tracer = Tracer(folders, verbose=verbose)
    if is_text or not tracer.names_row(query):
        return [tracer.judged_text(query, question, pool, config or files.config(folders))]
    if not folders:
        raise ValueError(f"{run}: nothing of it is done yet; run it first")
    if hits := tracer.find(query):
        return [tracer.story(hit) for hit in hits]
    near = tracer.near(query)
    meant = f"; near it: {', '.join(near)}" if near else ""
    raise ValueError(
        f"{query}: no such record in {', '.join(sorted(folder.path.name for folder in folders.values()))}{meant}"
        " (a text to judge comes through standard input: give -)"
    )
