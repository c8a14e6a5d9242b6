"""The samples that ship: as many as promised, every planted fault gets its reason, no good record is lost."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from medchatzh import recipe
from medchatzh.pipeline import Plan
from medchatzh.records import Dialogue, Document, Preference, Question, Reject, read

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    plan = Plan(QUICKSTART, [], tmp_path_factory.mktemp("runs"))
    plan.run("books")
    plan.run("curate")
    return {stage: plan.folder(stage) for stage in ("ingest", "curate", "books")}


@pytest.fixture(scope="module")
def faults(samples):
    return [msgspec.json.decode(line) for path in sorted((samples / "faults").glob("*.jsonl")) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def rejects(folders):
    return [reject for folder in folders.values() for reject in read(folder / "rejects.jsonl", Reject)]


def kept(folders):
    return [dialogue for pool in ("general", "medical") for dialogue in read(folders["curate"] / f"{pool}.jsonl", Dialogue)]


def test_there_is_as_much_as_promised(folders):
    dialogues = kept(folders)
    medical = [dialogue for dialogue in dialogues if dialogue.pool == "medical"]
    assert len(medical) >= 300 and len(dialogues) - len(medical) >= 100
    assert len({dialogue.category for dialogue in medical}) >= 10 and "中医科" in {dialogue.category for dialogue in medical}
    preferences = list(read(folders["ingest"] / "preferences.jsonl", Preference))
    assert len(preferences) >= 60 and all(len(preference.answers) >= 3 for preference in preferences)
    assert len({document.book for document in read(folders["books"] / "documents.jsonl", Document)}) >= 20
    assert len({question.category for question in read(folders["ingest"] / "questions.jsonl", Question)}) >= 10


def test_the_longer_answer_does_not_give_the_ranking_away(folders):
    pairs = [pair for preference in read(folders["ingest"] / "preferences.jsonl", Preference) for pair in preference.pairs()]
    assert sum(len(rejected) > len(chosen) for chosen, rejected in pairs) / len(pairs) > 0.15


def test_every_planted_fault_gets_its_reason(faults, rejects, folders):
    # By id: a reject's text is repaired, and masked where it held personal data. Later rows win: of two equal ones the second goes.
    ids = {(_file(raw), raw.question): raw.id for raw in read(folders["ingest"] / "dialogues.jsonl", Dialogue)}
    ids |= {(_file(reject), _raw_question(reject)): reject.id for reject in rejects if reject.stage == "ingest"}
    reasons = {reject.id: reject.reason for reject in rejects}
    by_line = {reject.origin: reject.reason for reject in rejects}
    by_file = {_file(reject): reject.reason for reject in rejects}
    survivors = {dialogue.id: dialogue for dialogue in kept(folders)}
    missed = []
    for fault in faults:
        expected, record_id = fault["expect"], ids.get((fault["file"], fault.get("question", "").strip()), "")
        if expected in ("list_numbers", "untouched"):
            found = survivors.get(record_id)
            ok = found is not None and ("list_numbers" in found.edits) == (expected == "list_numbers")
        elif "question" in fault:
            ok = reasons.get(record_id) == expected
        elif "line" in fault:
            ok = by_line.get(f"{fault['file']}:{fault['line']}") == expected
        else:
            ok = by_file.get(fault["file"]) == expected
        if not ok:
            missed.append((fault, reasons.get(record_id)))
    assert not missed, missed


def test_nothing_else_is_dropped(faults, rejects):
    planted = Counter(fault["expect"] for fault in faults if fault["expect"] not in ("list_numbers", "untouched"))
    assert Counter(reject.reason for reject in rejects if reject.stage != "books") == planted


def test_rejects_hold_no_personal_data(rejects):
    text = b"".join(msgspec.json.encode(reject) for reject in rejects if reject.reason == "personal_data").decode()
    assert "138" not in text and "@" not in text and "＠" not in text


def test_every_rule_has_something_to_do(rejects):
    from medchatzh.curate.rules import registry

    assert {rule.name for rule in registry.all_rules()} - {"garbage", "boilerplate"} <= {reject.reason for reject in rejects}


def _file(record):
    return record.origin.partition(":")[0]


def _raw_question(reject):
    """First user text of a row that ingest refused, in whatever form the row has."""
    row = reject.record if isinstance(reject.record, dict) else {}
    turns = [turn["content"] for turn in row.get("messages", []) if turn.get("role") == "user"]
    texts = [row.get(key, "") for key in ("instruction", "input", "title", "ask")]
    return turns[0] if turns else "\n".join(text for text in texts if text)


def test_recipes_name_only_sources_that_exist():
    table = recipe.load_toml(QUICKSTART)
    assert len({source["name"] for source in table["ingest"]["sources"]}) == len(table["ingest"]["sources"])
