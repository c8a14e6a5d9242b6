"""Damaged inputs of every form: no crash, and every row accounted for. MEDCHATZH_FUZZ=20000 runs the full number (4 minutes)."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from openpyxl import Workbook
from pyarrow import parquet

from medchatzh import records
from medchatzh.ingest import Source, Tally, read_source, units
from medchatzh.ingest.encoding import Unreadable
from medchatzh.ingest.files import CORRUPT, Part, parts
from medchatzh.ingest.formats import ALIASES, FORMATS, format_of
from medchatzh.ingest.rows import is_lines
from medchatzh.records import Question, Reject

NUM_INPUTS = int(os.environ.get("MEDCHATZH_FUZZ", "1500"))
NUM_BATCHES = 10
LONG = 10_000_000
DEEP = 100_000


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def turns(role: str, text: str, *speakers: str) -> list[dict]:
    return [{role: speaker, text: f"胃痛第{number}天"} for number, speaker in enumerate(speakers)]


def packed_workbook() -> bytes:
    book = Workbook()
    for number in range(5):
        book.active.append(["question", "answer"] if not number else [f"问{number}", "答"])
    book.create_sheet("第二")
    book.save(buffer := io.BytesIO())
    return buffer.getvalue()


def packed_parquet() -> bytes:
    parquet.write_table(pyarrow.table({"question": [f"问{n}" for n in range(9)], "answer": ["答"] * 9}), buffer := io.BytesIO())
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(mode: str, **members: bytes) -> bytes:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


ALPACA = [{"instruction": f"头痛{n}", "input": "三天", "output": "休息", "history": [["一", "二"]]} for n in range(6)]
PAIRS = [{"question": f"问{n}", "answer": "规律饮食，忌辛辣。", "category": "内科"} for n in range(6)]
TALK = "patient: 咳\ndoctor: 多久\n"
JUDGED = {
    "id": "1", "model": "m", "scores": "\n".join(f"{name}: 4" for name in "ABCD"),
    "prompt": f"x\n[start of conversation]\n{TALK}[end of conversation]",
}  # fmt: skip
SEEDS: dict[str, bytes] = {
    "alpaca": lines(*ALPACA),
    "array": json.dumps([*ALPACA, *PAIRS], ensure_ascii=False, indent=1).encode(),
    "flat array": json.dumps(ALPACA, ensure_ascii=False).encode(),
    "question_answer": lines(*PAIRS),
    "sharegpt": lines(*[{"conversations": turns("from", "value", "human", "gpt")}] * 5),
    "messages": lines(*[{"messages": turns("role", "content", "system", "user", "assistant")}] * 5),
    "mixed": lines(
        ALPACA[0], PAIRS[0], {"context": "问题：咳\n回答: ", "target": "水"}, {"x": 1}, {"questions": [["a", "b"]], "answers": ["c"]}
    ),
    "cmtmedqa": json.dumps([{**row, "cate1": "内科", "cate2": "心内科", "id": "j"} for row in ALPACA], ensure_ascii=False).encode(),
    "huatuo26m": lines(*[{"questions": [["问", "问法"]], "answers": ["答"]}] * 5),
    "seed_tasks": lines({"instruction": "写", "instances": [{"input": "夏", "output": "诗"}, {"input": "冬", "output": "诗"}]}),
    "cmdd": json.dumps({"dialogue-content": turns("speaker", "sentence", "医生", "患者", "医生")}, ensure_ascii=False, indent=1).encode(),
    "smile": json.dumps(turns("role", "content", "client", "counselor"), ensure_ascii=False).encode(),
    "rankings": lines(*[{"prompt": "问", "answers": [{"text": "甲", "rank": 1}, {"text": "乙", "rank": 2}]}] * 4),
    "pairs": lines(*[{"instruction": "问", "chosen": "好", "rejected": "坏"}] * 4),
    "disc_scores": lines(*[JUDGED, {**JUDGED, "model": "n"}]),
    "drug_text": json.dumps(["利可君\n片剂", "甲\n乙"], ensure_ascii=False, indent=1).encode(),
    "meddialog_json": json.dumps([["病人：头痛", "医生：休息"]] * 4, ensure_ascii=False).encode(),
    "meddialog": "id=1\nhttp://x\nDoctor faculty\n甲 乙\nDescription\n头晕\nDialogue\n病人：\n问\n医生：\n答\n\n".encode() * 3,
    "toyhom_csv": 'department,title,ask,answer\n内科,胃痛,三天,"休息，\n喝水"\n外科,腰痛,,热敷\n'.encode("gbk"),
    "toyhom_text": "问一\n答一\n\n问二\n答二\n\n问三\n答三\n".encode("gbk"),
    "csv": 'question,answer\n胃痛,"饮食,规律"\n咳,"水""多"\n'.encode(),
    "tsv": "question\tanswer\n胃痛\t饮食\n咳\t水\n".encode("utf-16"),
    "cmedqa2": "question_id,content\n11,头痛\n12,失眠\n".encode(),
    "cmedqa_tsv": '1\t失眠\t早睡\n0\t失眠\t"别""的"\n1\t失眠\t跨\n0\t失眠\t别\n'.encode(),
    "webmedqa": "1\t1\t内科\t问一\t答一\n1\t0\t内科\t问一\t别的\n2\t1\t外科\t问二\t答二\n".encode(),
    "remedi": (
        "<|endoftext|> <|context|> <|user|> 咳 <|system|> 多久<|endofcontext|> <|currentuser|> 热 <|endofcurrentuser|> "
        "<|response|> 水 <|endofresponse|>\n\n"
    ).encode()
    * 2,
    "book": ("<篇名>样书\n书名：样书\n" + "脾胃者，仓廪之官。\n" * 40).encode("gb18030"),
    "xlsx": packed_workbook(),
    "parquet": packed_parquet(),
    "zip": zipped(a=lines(*PAIRS), b=zipped(c=lines(*ALPACA)), d=gzip.compress(lines(*PAIRS))),
    "tar": tarred("w:xz", a=lines(*PAIRS), b="<篇名>甲\n乙".encode("gbk")),
    "tar.gz": tarred("w:gz", a=lines(*PAIRS)),
    "gz": gzip.compress(lines(*PAIRS)),
    "xz": lzma.compress(lines(*PAIRS)),
    "bz2": bz2.compress(lines(*PAIRS)),
}


def flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 12)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def cut_start(data: bytes, chance: random.Random) -> bytes:
    return data[chance.randrange(len(data)) :]


def cut_out(data: bytes, chance: random.Random) -> bytes:
    start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[end:]


def repeat(data: bytes, chance: random.Random) -> bytes:
    start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:]


def insert(data: bytes, chance: random.Random) -> bytes:
    spot = chance.randrange(len(data) + 1)
    junk = chance.choice(
        [b"\0", b"\xff", b'"', b"{", b"[", b"]", b"\n", b"\r\n", b"\t", b",", b"\\ud83d", b"\xef\xbb\xbf", chance.randbytes(9)]
    )
    return data[:spot] + junk * chance.choice([1, 1, 2, 500]) + data[spot:]


def insert_long(data: bytes, chance: random.Random) -> bytes:
    spot = chance.randrange(len(data) + 1)
    return data[:spot] + chance.choice([b"a", "痛".encode(), b"[", b'{"a":', b",", b"\n"]) * LONG + data[spot:]


def nest(data: bytes, chance: random.Random) -> bytes:
    spot = chance.randrange(len(data) + 1)
    start, end = chance.choice([(b"[", b"]"), (b'{"question":', b"}"), (b'[{"answers":', b"}]")])
    depth = chance.choice([50, 500, 2000, DEEP])
    return data[:spot] + start * depth + b"1" + end * depth + data[spot:]


def recode(data: bytes, chance: random.Random) -> bytes:
    codec = chance.choice(["gb18030", "utf-16", "utf-16-le", "utf-8-sig", "big5hkscs", "shift_jis", "utf-32"])
    return data.decode("utf-8", "ignore").encode(codec, "ignore")


def change_values(data: bytes, chance: random.Random) -> bytes:
    """Fields dropped, renamed, and of other types, in JSON; elsewhere bytes are flipped."""
    try:
        rows = [json.loads(line) for line in data.splitlines()]
    except (ValueError, RecursionError):
        return flip(data, chance)
    return "".join(json.dumps(_changed(row, chance)) + "\n" for row in rows).encode()


def _changed(value: Any, chance: random.Random) -> Any:
    if chance.random() < 0.15:
        return chance.choice(
            [None, True, -1, 10**40, 1e308, float("nan"), "", " ", "\ud83d", [], {}, [[]], [None], {"a": []}, ["x", 1], "病人：x"]
        )
    if isinstance(value, dict):
        items = [(key if chance.random() > 0.1 else chance.choice(["", "id", "answers", "x"]), item) for key, item in value.items()]
        return {key: _changed(item, chance) for key, item in items if chance.random() > 0.1}
    return [_changed(item, chance) for item in value] if isinstance(value, list) else value


MUTATIONS: list[tuple[Callable[[bytes, random.Random], bytes], int]] = [
    (flip, 30), (truncate, 10), (cut_start, 10), (cut_out, 10), (repeat, 10), (insert, 20), (nest, 4), (recode, 10), (change_values, 30)
]  # fmt: skip


def mutated(number: int, chance: random.Random) -> tuple[str, bytes]:
    name = list(SEEDS)[number % len(SEEDS)]
    data = SEEDS[name]
    if number % 400 < 2:  # each costs a tenth of a second
        return name, insert_long(data, chance)
    functions, weights = zip(*MUTATIONS, strict=True)
    for function in chance.choices(functions, weights, k=chance.choice([1, 1, 2])):
        data = function(data, chance) or data
    return name, data


@pytest.mark.parametrize("batch", range(NUM_BATCHES))
def test_damaged_inputs_crash_nothing_and_all_rows_are_accounted_for(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "damaged"
    for number in range(batch * NUM_INPUTS // NUM_BATCHES, (batch + 1) * NUM_INPUTS // NUM_BATCHES):
        chance = random.Random(number)
        name, data = mutated(number, chance)
        path.write_bytes(data)
        named = name if name in FORMATS else chance.choice(sorted(FORMATS))
        source = Source(name="s", path="*", format="auto" if chance.random() < 0.7 else named)
        try:
            check(source, path)
        except Exception as error:
            error.add_note(f"input {number}: {name} as {source.format}")
            raise


@pytest.mark.parametrize("batch", range(NUM_BATCHES))
def test_pieces_of_damaged_files_give_what_the_whole_gives(tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 150)
    path = tmp_path / "damaged"
    files = {"damaged": path, "twice": path}
    for number in range(batch * NUM_INPUTS // NUM_BATCHES, (batch + 1) * NUM_INPUTS // NUM_BATCHES, 10):
        _, data = mutated(number, random.Random(number))
        path.write_bytes(data[:100_000])
        source = Source(name="s", path="*")
        tally, whole = Tally(), dict.fromkeys(units.FILES.values(), b"")
        for record in read_source(source, files, tally):
            whole[units.FILES[type(record)]] += records._encoder.encode(record) + b"\n"
        total, pieces, done = Tally(), dict.fromkeys(whole, b""), []
        for unit in units.cut(source, files):
            folder = tmp_path / f"{number}-{len(done)}"
            folder.mkdir()
            done.append((unit, folder, units.read_unit(unit, folder)))
            total.add(done[-1][2])
        for place, job in enumerate(units.numberings(done)):
            folder = tmp_path / f"{number}-{place}-numbered"
            folder.mkdir()
            units.number(job, folder)
            for output in folder.iterdir():
                pieces[output.name] += output.read_bytes()
        assert pieces == whole, number
        total.num_lines, total.counts, total.reasons = 0, {}, {}
        assert total == tally, number


def check(source: Source, path: Path) -> None:
    tally = Tally()
    found = []
    for record in read_source(source, {"damaged": path}, tally):
        encoded = records._encoder.encode(record)
        assert b"\n" not in encoded
        found.append((isinstance(record, Reject), isinstance(record, Question) or record.id, record.origin))
        records.msgspec.json.decode(encoded, type=type(record))
    num_kept = sum(not rejected for rejected, _, _ in found)
    assert tally.files == {"damaged": [len(found), num_kept]}
    assert (tally.num_in, tally.num_kept) == (len(found), num_kept)
    assert all(row is True or row == f"s:{number}" for number, (_, row, _) in enumerate(found, 1))
    if found == []:
        assert source.format in ALIASES or not path.read_bytes().strip(b"\0 \r\n") or is_without_rows(source, path)
    if all_lines := line_numbers(source, path):
        assert {int(origin.rpartition(":")[2]) for _, _, origin in found} == all_lines


def is_without_rows(source: Source, path: Path) -> bool:
    """An archive without members, an empty array, a header without rows, blank lines."""
    texts = [part.head.strip(" \t\r\n\0,[]\ufeff") for part in parts("x", path)]
    return all("\n" not in text or "," in text or "\t" in text for text in texts)


def line_numbers(source: Source, path: Path) -> set[int]:
    """The lines of a plain file of JSON lines that are not blank; none for other files."""
    try:
        part: Part = next(iter(parts("x", path)))
        if part.is_plain and format_of(part, source).by_line and is_lines(part.head):
            with part.text() as stream:
                return {number for number, line in enumerate(stream, 1) if not line.isspace()}
    except (Unreadable, *CORRUPT):
        pass
    return set()
