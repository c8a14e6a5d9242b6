"""Curation: repair each record, drop it with a reason or keep it, drop what the benchmark knows, and duplicates.

Order: repairs, then the rules (the first that fires names the reason), then decontamination, then duplicates. Every record comes out
exactly once, as a `Dialogue` or as a `Reject`. Four passes over shards of the input: a survey of recurring sentences, cleaning
(which also writes keys), finding duplicates by the keys, and writing without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from medchatzh.curate.config import Config
from medchatzh.records import Dialogue, Question, Reject
from medchatzh.run import Context, Result

__all__ = ["VERSION", "Config", "curate_records", "run"]

VERSION = 4
LIBRARIES = ("numba", "numpy")
SEEDED = False


def curate_records(
    records: Iterable[Dialogue], questions: Iterable[Question], config: Config, boilerplate: frozenset[str] = frozenset()
) -> Iterator[Dialogue | Reject]:
    """Every record once, in order: repaired and kept, or as a Reject (personal data masked) that says why. All in memory."""
    from medchatzh.curate import duplicates
    from medchatzh.curate.batch import Batch
    from medchatzh.curate.benchmark import Benchmark
    from medchatzh.curate.clean import Cleaner, rejects

    cleaned = Cleaner(config, Benchmark(questions, config.decontamination), boilerplate)(Batch(list(records)))
    outcomes = cleaned.outcomes()
    kept = [outcome for outcome in outcomes if isinstance(outcome, Dialogue)]
    keys = cleaned.keys(cleaned.kept(), config.duplicates)
    drops = duplicates.find(keys.__getitem__, len(kept), config.duplicates, lambda rows: duplicates.shingles([kept[row] for row in rows]))
    told = {row: (reason, duplicates.detail(reason, kept[keeper].id, similarity)) for row, reason, keeper, similarity in drops.each()}
    row = 0
    for outcome in outcomes:
        if isinstance(outcome, Reject):
            yield outcome
            continue
        yield rejects([(outcome, *told[row])], config.personal_kinds)[0] if row in told else outcome
        row += 1


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """`ingest/{dialogues,questions}.jsonl` → `general.jsonl`, `medical.jsonl` (kept, repaired), `rejects.jsonl`, `near_pairs.jsonl`."""
    from medchatzh.curate import passes, tally

    dialogues, questions = inputs["ingest"] / "dialogues.jsonl", inputs["ingest"] / "questions.jsonl"
    sentences = passes.survey(dialogues, config, out, context)
    cleaned = passes.clean(dialogues, questions, sentences, config, out, context)
    passes.find_duplicates(len(cleaned), config, out, context)
    whole = passes.write_out(cleaned, config, out, context)
    dropped = whole.reasons()
    return Result(
        num_in=whole.num_in,
        num_out=whole.num_in - sum(dropped.values()),
        dropped=dropped,
        facts=tally.facts(whole) | {"boilerplate": [list(pair) for pair in sentences], "num_shards": len(cleaned)},
    )
