"""Damaged prediction files and benchmarks: no crash, each row accounted for. MEDCHATZH_FUZZ=10000 runs the full number."""

import gzip
import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from medchatzh import records
from medchatzh.ingest import Source, Tally, read_source
from medchatzh.ingest.encoding import Unreadable
from medchatzh.ingest.files import CORRUPT, parts
from medchatzh.ingest.predictions import Joiner, Row, rows
from medchatzh.ingest.rows import is_json, is_lines
from medchatzh.records import Prediction, Question, Reject
from tests.ingest.test_fuzz import MUTATIONS, insert_long, lines, zipped

NUM_INPUTS = int(os.environ.get("MEDCHATZH_FUZZ", "500"))
NUM_BATCHES = 5
QUESTIONS = [Question(id=f"web:{n}", question=f"第{n}个问题，怎么办？", references=("答", "另答")) for n in range(8)]

ANSWERED = [{"id": n, "question": f"第{n}个问题，怎么办？", "answer": f"多休息，\n第{n}天复查。"} for n in range(8)]
PREDICTIONS = {
    "ours": lines(*({"id": f"web:{n}", "system": "x", "question": "?", "answer": "好", "finish": "length"} for n in range(8))),
    "lines": lines(*ANSWERED),
    "array": json.dumps(ANSWERED, ensure_ascii=False, indent=1).encode(),
    "by question": lines(*({"question": row["question"], "prediction": row["answer"]} for row in ANSWERED)),
    "paper": "".join(
        ["label,question,predict\n", *(f'{n},第{n}个问题，怎么办？,"多休息，\n第{n}天""复查""。"\n' for n in range(8))]
    ).encode(),
    "gbk": "".join(["id,answer\n", *(f"{n},好的{n}\n" for n in range(8))]).encode("gbk"),
    "tabs": "".join(["qid\toutput\n", *(f'{n}\t"好{n}"\n' for n in range(8))]).encode("utf-16"),
    "zip": zipped(**{"a.csv": b"id,answer\n1,a\n", "b.jsonl": lines(*ANSWERED), "c.gz": gzip.compress(lines(*ANSWERED))}),
}
CANDIDATES = "question_id,ans_id,cnt,label\n" + "".join(f"{n},{m},0,{int(n == m)}\n" for n in range(4) for m in range(4))
TABLES = {"question.csv": "question_id,content\n" + "".join(f"{n},问{n}\n" for n in range(5)),
          "answer.csv": "ans_id,question_id,content\n" + "".join(f'{n},{n},"答，\n{n}"\n' for n in range(5)),
          "test_candidates.txt": CANDIDATES}  # fmt: skip
TALK = [["头痛", "多久了"], ["三天", "休息"]]
BENCHMARKS = {
    "webmedqa": "".join(f"{n}\t{int(not m)}\t内科\t问{n}\t答{n}{m}\n" for n in range(5) for m in range(5)).encode(),
    "cmedqa2_test": zipped(**{name: text.encode() for name, text in TABLES.items()}),
    "huatuo": json.dumps([{"id": "", "instruction": [f"问{n}"], "input": "", "output": ["答", "另答"]} for n in range(5)]).encode(),
    "cmtmedqa": json.dumps(
        [
            {"id": f"j{n}", "cate1": "内科", "cate2": "x", "instruction": "谢谢", "input": "", "output": "好", "history": TALK}
            for n in range(4)
        ]
        + [{"instruct": "问", "output": "答"}],
        ensure_ascii=False,
        indent=1,
    ).encode(),
    "table": "编号,问题,回答\n".encode("gbk") + "".join(f"{n},头痛{n},休息\n" for n in range(6)).encode("gbk"),
    "talks": lines(*[{"conversations": [{"from": who, "value": "说"} for who in ("human", "gpt", "human", "gpt")]}] * 4),
}


def mutated(number: int, chance: random.Random, seeds: dict[str, bytes]) -> tuple[str, bytes]:
    name = list(seeds)[number % len(seeds)]
    data = seeds[name]
    if number % 500 < 2:  # each costs a tenth of a second
        return name, insert_long(data, chance)
    functions, weights = zip(*MUTATIONS, strict=True)
    for function in chance.choices(functions, weights, k=chance.choice([1, 1, 2])):
        data = function(data, chance) or data
    return name, data


@pytest.mark.parametrize("batch", range(NUM_BATCHES))
def test_damaged_predictions(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "damaged"
    for number in range(batch, NUM_INPUTS, 2 * NUM_BATCHES):
        name, data = mutated(number // NUM_BATCHES, random.Random(number), PREDICTIONS)
        path.write_bytes(data)
        try:
            check_predictions(path)
        except Exception as error:
            error.add_note(f"input {number}: {name}")
            raise


def check_predictions(path: Path) -> None:
    joiner = Joiner(QUESTIONS, "x")
    found = list(rows("damaged", path, {}))
    outcomes = [joiner.join(origin, row) for origin, row in found]
    kept = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    assert len(outcomes) == len(found) and len({one.id for one in kept}) == len(kept) == joiner.joined.total()
    for (origin, row), outcome in zip(found, outcomes, strict=True):
        assert re.fullmatch(r"damaged(!.*)?:\d+", origin, re.DOTALL) and outcome.origin == origin
        assert isinstance(outcome, Reject) or isinstance(row, Row)
        encoded = records._encoder.encode(outcome)
        assert b"\n" not in encoded
        records.msgspec.json.decode(encoded, type=type(outcome))
    try:
        (part, *others) = parts("damaged", path)
        if not others and part.is_plain and is_json(part.head) and is_lines(part.head):
            with part.text() as stream:
                counted = Counter(number for number, line in enumerate(stream, 1) if not line.isspace())
            assert counted == Counter(int(origin.rpartition(":")[2]) for origin, _ in found)
    except (Unreadable, *CORRUPT):
        assert all(isinstance(outcome, Reject) for outcome in outcomes) and outcomes


@pytest.mark.parametrize("batch", range(NUM_BATCHES))
def test_damaged_benchmarks(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "damaged"
    for number in range(NUM_BATCHES + batch, NUM_INPUTS, 2 * NUM_BATCHES):
        name, data = mutated(number // NUM_BATCHES, random.Random(number), BENCHMARKS)
        path.write_bytes(data)
        named = {"columns": {"id": "编号", "question": "问题", "answer": "回答"}} if name == "table" else {}
        named |= {"format": "cmedqa2_test"} if name == "cmedqa2_test" else {}
        try:
            check_benchmark(Source(name="b", path="*", benchmark=True, **named), path)
        except Exception as error:
            error.add_note(f"input {number}: {name}")
            raise


def check_benchmark(source: Source, path: Path) -> None:
    tally = Tally()
    found = list(read_source(source, {"damaged": path}, tally))
    assert all(isinstance(record, (Question, Reject)) for record in found)
    kept = [record for record in found if isinstance(record, Question)]
    assert (tally.num_in, tally.num_kept) == (len(found), len(kept)) and tally.files == {"damaged": [len(found), len(kept)]}
    for record in found:
        assert re.fullmatch(r"damaged(!.*)?:\d+", record.origin, re.DOTALL)
        records.msgspec.json.decode(records._encoder.encode(record), type=type(record))
    for question in kept:
        assert question.question.strip() and question.references and all(map(str.strip, question.references))
        assert question.id.startswith("b:") and question.id != "b:"
        assert not question.history or question.turns[-2].role == "assistant" or question.history[-1].role == "system"
