"""The stage: files of a recipe's sources, records with ids and origins, counts that balance."""

import bz2
import gzip
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from medchatzh import recipe, records
from medchatzh.cli import main
from medchatzh.ingest import Config, Source, Tally, raw_files, read_source, run
from medchatzh.run import Context, Result, read_manifest

PAIR = {"question": "问", "answer": "答"}


def write(path: Path, *rows: Any, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    path.write_bytes(text.encode(encoding))


def ingest(root: Path, out: Path, *sources: Source) -> Result:
    out.mkdir()
    config = Config(sources=sources)
    result = run(config, {}, out, Context(), files=raw_files(config, root))
    num_lines = {path.name: len(list(path.open())) for path in out.iterdir() if path.is_file()}
    assert set(num_lines) == {"dialogues.jsonl", "books.jsonl", "preferences.jsonl", "questions.jsonl", "rejects.jsonl"}
    assert num_lines.pop("rejects.jsonl") == sum(result.dropped.values())
    assert sum(num_lines.values()) == result.num_out
    assert result.num_in == result.num_out + sum(result.dropped.values())
    return result


def test_ids_count_all_rows_and_origins_name_the_line(tmp_path: Path) -> None:
    write(tmp_path / "data/a.jsonl", PAIR, "{broken", "", {"question": "问"})
    write(tmp_path / "data/b.jsonl", {**PAIR, "category": "外科"})
    result = ingest(tmp_path, tmp_path / "out", Source(name="x", path="data/*.jsonl", pool="general", category="内科"))
    kept = list(records.read(tmp_path / "out/dialogues.jsonl", records.Dialogue))
    assert [(one.id, one.origin, one.category, one.pool) for one in kept] == [
        ("x:1", "data/a.jsonl:1", "内科", "general"),
        ("x:4", "data/b.jsonl:1", "外科", "general"),
    ]
    rejects = list(records.read(tmp_path / "out/rejects.jsonl", records.Reject))
    assert [(one.id, one.origin, one.reason, one.stage) for one in rejects] == [
        ("x:2", "data/a.jsonl:2", "broken_row", "ingest"),
        ("x:3", "data/a.jsonl:4", "missing_answer", "ingest"),
    ]
    assert rejects[0].record == "{broken"
    assert result.dropped == {"broken_row": 1, "missing_answer": 1}
    assert result.facts["num_dialogues"] == 2
    assert result.facts["sources"]["x"] == {
        "format": "question_answer", "encodings": {"utf-8": 2}, "num_files": 2, "num_rows": 4, "num_kept": 2,
    }  # fmt: skip


def test_limit_counts_kept_records(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", "{broken", *[PAIR] * 9)
    result = ingest(tmp_path, tmp_path / "out", Source(name="x", path="a.jsonl", limit=3))
    assert (result.num_in, result.num_out) == (4, 3)


def test_two_runs_write_the_same_bytes(tmp_path: Path, samples: Path) -> None:
    for out in ("one", "two"):
        ingest(samples, tmp_path / out, Source(name="m", path="medical/*"), Source(name="r", path="preference/*"))
    for path in (tmp_path / "one").glob("*.jsonl"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_archives_name_their_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("in/b.jsonl", json.dumps(PAIR))
        archive.writestr("in/readme.md", "no data")
    ingest(tmp_path, tmp_path / "out", Source(name="z", path="z.zip"))
    (kept,) = records.read(tmp_path / "out/dialogues.jsonl", records.Dialogue)
    assert kept.origin == "z.zip!in/b.jsonl:1"
    (reject,) = records.read(tmp_path / "out/rejects.jsonl", records.Reject)
    assert (reject.reason, reject.origin) == ("unknown_format", "z.zip!in/readme.md:1")


def test_a_damaged_archive_keeps_what_came_before(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"question": f"问{number * number}", "answer": f"答{number}"}) + "\n" for number in range(30000))
    (tmp_path / "a.gz").write_bytes(gzip.compress(rows.encode())[:-2000])
    write(tmp_path / "b.jsonl", PAIR)
    result = ingest(tmp_path, tmp_path / "out", Source(name="x", path="*.*"))
    assert result.num_out > 20000
    assert result.dropped == {"corrupt_file": 1}
    assert list(records.read(tmp_path / "out/dialogues.jsonl", records.Dialogue))[-1].origin == "b.jsonl:1"


def zipped(path: Path, damage: str, compression: int = zipfile.ZIP_DEFLATED) -> None:
    """Members a, b and c of a row each, of which b is damaged."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in "abc":
            archive.writestr(f"{name}.jsonl", json.dumps({"question": f"胃痛{name}", "answer": "规律饮食"}, ensure_ascii=False))
        inner = archive.getinfo("b.jsonl")
    data = bytearray(path.read_bytes())
    if damage == "encrypted":
        data[data.index(b"b.jsonl", data.index(b"PK\x01\x02")) - 46 + 8] |= 1
    else:
        data[inner.header_offset + 30 + len("b.jsonl") + inner.compress_size // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "compression"),
    [("bits", zipfile.ZIP_STORED), ("bits", zipfile.ZIP_DEFLATED), ("bits", zipfile.ZIP_BZIP2), ("bits", zipfile.ZIP_LZMA),
     ("encrypted", zipfile.ZIP_DEFLATED)],
)  # fmt: skip
def test_a_damaged_zip_member_loses_itself_only(tmp_path: Path, damage: str, compression: int) -> None:
    zipped(tmp_path / "z.zip", damage, compression)
    result = ingest(tmp_path, tmp_path / "out", Source(name="x", path="z.zip"))
    assert result.dropped == {"corrupt_file": 1}
    assert [one.origin for one in records.read(tmp_path / "out/rejects.jsonl", records.Reject)] == ["z.zip!b.jsonl:1"]
    assert [one.question for one in records.read(tmp_path / "out/dialogues.jsonl", records.Dialogue)] == ["胃痛a", "胃痛c"]
    assert result.facts["sources"]["x"]["num_files"] == 3


def test_a_damaged_bz2_file_is_a_reject_and_other_sources_go_on(tmp_path: Path) -> None:
    data = bytearray(bz2.compress(json.dumps(PAIR).encode() * 50))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.bz2").write_bytes(data)
    write(tmp_path / "b.jsonl", PAIR)
    result = ingest(tmp_path, tmp_path / "out", Source(name="x", path="a.bz2"), Source(name="y", path="b.jsonl"))
    (reject,) = records.read(tmp_path / "out/rejects.jsonl", records.Reject)
    assert (reject.reason, reject.origin) == ("corrupt_file", "a.bz2:1")
    assert result.num_out == 1


def test_a_failure_of_the_machine_is_no_damage_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_source(Source(name="x", path="*"), {"gone": tmp_path / "gone"}, Tally()))


def test_questions_keep_their_own_ids_and_repeats_show(tmp_path: Path) -> None:
    rows = ["77\t1\t内科\t问一\t答一", "5\t1\t内科\t问二\t答二", "5\t0\t内科\t问二\t别的", "77\t1\t内科\t问一\t答一"]
    write(tmp_path / "q.txt", *rows)
    ingest(tmp_path, tmp_path / "out", Source(name="web", path="q.txt", format="webmedqa"))
    found = list(records.read(tmp_path / "out/questions.jsonl", records.Question))
    assert [(one.id, one.origin) for one in found] == [("web:77", "q.txt:1"), ("web:5", "q.txt:2"), ("web:77", "q.txt:4")]


def test_one_undecodable_line_loses_that_line(tmp_path: Path) -> None:
    good = json.dumps({"question": "胃痛怎么办", "answer": "规律饮食"}, ensure_ascii=False).encode() + b"\n"
    (tmp_path / "a.jsonl").write_bytes(good * 5 + good.replace("胃".encode(), b"\xff\xfe") + good)
    (tmp_path / "b.csv").write_bytes(
        "department,title,ask,answer\n内科,胃痛,问,答\n".encode("gbk") + b"\xff\xff,x,y,z\n" + "内科,热,问,答\n".encode("gbk")
    )
    result = ingest(tmp_path, tmp_path / "out", Source(name="x", path="*.*"))
    assert result.dropped == {"wrong_encoding": 2}
    assert result.num_out == 8
    assert {one.origin for one in records.read(tmp_path / "out/rejects.jsonl", records.Reject)} == {"a.jsonl:6", "b.csv:3"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_encodings_of_json_arrays(tmp_path: Path, encoding: str) -> None:
    rows = [{"question": f"胃痛第{number}天怎么办？", "answer": "规律饮食，忌辛辣。"} for number in range(20)]
    (tmp_path / "a.json").write_bytes(json.dumps(rows, ensure_ascii=False, indent=2).encode(encoding))
    result = ingest(tmp_path, tmp_path / "out", Source(name="x", path="a.json"))
    assert result.facts["sources"]["x"]["encodings"] == {encoding: 1}
    kept = list(records.read(tmp_path / "out/dialogues.jsonl", records.Dialogue))
    assert [one.question for one in kept] == [row["question"] for row in rows]
    assert [one.origin for one in kept] == [f"a.json:{2 + 4 * number}" for number in range(20)]


def test_a_source_without_files_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"source 'x': no file matches data/\*\.json in .*correct its path"):
        raw_files(Config(sources=(Source(name="x", path="data/*.json"),)), tmp_path)


def test_raw_files_are_sorted_relative_and_not_hidden(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/c/1.txt", "a.txt", "b/.DS_Store", "b/.hidden.txt"):
        write(tmp_path / name, "x")
    config = Config(sources=(Source(name="x", path="**/*.txt"), Source(name="y", path="b/*")))
    assert raw_files(config, tmp_path) == {name: tmp_path / name for name in ("a.txt", "b/2.txt", "b/c/1.txt")}


def test_files_go_to_the_sources_whose_glob_finds_them(tmp_path: Path) -> None:
    write(tmp_path / "a/1.jsonl", PAIR)
    write(tmp_path / "b/c/2.jsonl", PAIR)
    ingest(tmp_path, tmp_path / "out", Source(name="deep", path="b/**/*.jsonl"), Source(name="flat", path="a/*.json?"))
    assert [one.origin for one in records.read(tmp_path / "out/dialogues.jsonl", records.Dialogue)] == ["b/c/2.jsonl:1", "a/1.jsonl:1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "alpacca"}, "unknown format 'alpacca'; did you mean alpaca"),
        ({"format": "zzzz"}, "known: auto, alpaca"),
        ({"path": "/etc/x"}, "write a glob below data.root"),
        ({"path": "../x"}, "write a glob below data.root"),
        ({"name": "a b"}, "a name has no spaces"),
        ({"limit": -1}, "write 0 for all"),
        ({"encoding": "gb2313"}, "unknown encoding 'gb2313'"),
        ({"format": "csv", "columns": {"question": "q"}}, "columns names question; write columns"),
        ({"format": "alpaca", "columns": {"question": "q", "answer": "a"}}, "columns are read by the formats auto, csv, tsv, json"),
        ({"format": "csv", "columns": {"frage": "q"}}, "columns.frage: known here: question, answer"),
    ],
)
def test_wrong_settings_say_what_to_write(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        recipe.convert({"sources": [{"name": "x", "path": "*"} | settings]}, Config, "recipe.toml")


def test_a_source_name_stands_once() -> None:
    with pytest.raises(ValueError, match="'x' is used twice"):
        Config(sources=(Source(name="x", path="a"), Source(name="x", path="b")))


SAMPLES = (
    Source(name="western", path="medical/western.csv"),
    Source(name="clinic", path="medical/clinic.json"),
    Source(name="tcm", path="medical/tcm.jsonl"),
    Source(name="dialogues", path="medical/dialogues.jsonl"),
    Source(name="knowledge", path="medical/knowledge.txt"),
    Source(name="general", path="general/*.json*", pool="general"),
    Source(name="rankings", path="preference/rankings.jsonl"),
    Source(name="benchmark", path="benchmark/medQA.test.txt"),
    Source(name="books", path="books/*", format="book"),
)
OWN_REASONS = {"broken_row", "missing_question", "missing_answer", "too_few_answers", "no_preference", "empty_file", "null_bytes"}


def test_the_faults_planted_in_the_samples_are_found_and_no_others(tmp_path: Path, samples: Path) -> None:
    result = ingest(samples, tmp_path / "out", *SAMPLES)
    facts = result.facts["sources"]
    assert {name: fact["format"] for name, fact in facts.items()} == {
        "western": "toyhom_csv", "clinic": "alpaca", "tcm": "messages", "dialogues": "sharegpt", "knowledge": "context_target",
        "general": "alpaca, sharegpt", "rankings": "rankings", "benchmark": "webmedqa", "books": "book",
    }  # fmt: skip
    assert facts["western"]["encodings"] == {"gb18030": 1}
    assert facts["clinic"]["encodings"] == {"utf-8-sig": 1}
    rejects = list(records.read(tmp_path / "out/rejects.jsonl", records.Reject))
    found = sorted((one.origin.rpartition(":")[0], one.reason) for one in rejects if not one.origin.startswith("books/"))
    planted = [json.loads(line) for path in sorted((samples / "faults").glob("*.jsonl")) for line in path.open()]
    expected = [fault for fault in planted if fault["expect"] in OWN_REASONS and not fault["file"].startswith("books/")]
    assert found == sorted((fault["file"], fault["expect"]) for fault in expected)
    lines = {one.origin for one in rejects}
    assert all(f"{fault['file']}:{fault['line']}" in lines for fault in expected if "line" in fault)
    assert {one.reason for one in rejects if one.origin.startswith("books/")} == {"empty_file", "null_bytes"}


REAL = [
    # source path, format, rows, kept
    ("medical/toyhom/*.csv", "toyhom_csv", 7644, 7644),
    ("medical/toyhom/*.txt", "toyhom_text", 4048, 4048),
    ("medical/bentsao/l*.json", "alpaca", 9658, 9658),
    ("medical/bentsao/question.json", "question_answer", 200, 0),
    ("medical/med_chatglm/train.txt", "context_target", 7622, 7622),
    ("medical/medicalgpt/*.jsonl", "sharegpt", 1000, 1000),
    ("medical/cmdd.zip", "cmdd", 2069, 2067),
    ("medical/smile.zip", "smile", 3064, 3059),
    ("medical/remedi/*.txt", "remedi", 208, 208),
    ("medical/cmedqa2/*.txt", "cmedqa_tsv", 5840, 1049),
    ("medical/drug/drug.json", "drug_text", 2441, 2441),
    ("general/belle_eval_set.json", "question_answer", 1000, 631),
    ("general/belle_zh_seed_tasks.json", "seed_tasks", 175, 175),
    ("preference/disc_medllm_gpt4_scores/**/*.jsonl", "disc_scores", 73, 72),
    ("preference/*.json*", "pairs", 800, 800),
    ("evaluation/**/medQA.test.txt", "webmedqa", 700, 700),
]


@pytest.mark.parametrize(("path", "format", "num_rows", "num_kept"), REAL)
def test_real_files_are_told_by_content_and_counted(
    shared_data: Path, tmp_path: Path, path: str, format: str, num_rows: int, num_kept: int
) -> None:
    result = ingest(shared_data, tmp_path / "out", Source(name="x", path=path))
    assert result.facts["sources"]["x"]["format"] == format
    assert (result.num_in, result.num_out) == (num_rows, num_kept)


def test_a_reject_with_a_very_long_run_of_letters_is_masked_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"unknown": "a" * 3_000_000 + " me@example.org 13812345678"})
    ingest(tmp_path, tmp_path / "out", Source(name="x", path="*.jsonl"))  # it took hours
    (reject,) = records.read(tmp_path / "out/rejects.jsonl", records.Reject)
    assert str(reject.record).endswith("aaa *** ***'}")


def test_a_zip_with_a_broken_name_is_set_aside_and_its_neighbours_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("问题.csv", "question,answer\n问,答\n")
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace("问题".encode(), b"\xff" * 6))
    write(tmp_path / "b.jsonl", PAIR)
    result = ingest(tmp_path, tmp_path / "out", Source(name="x", path="*"))
    assert (result.num_out, result.dropped) == (1, {"corrupt_file": 1})


def test_names_that_are_no_utf8_are_read_under_a_decoded_name(tmp_path: Path) -> None:
    """A zip with GBK names, unpacked on Linux: files and folders, one that decodes by nothing, one whose name stands there in UTF-8 too."""
    root = tmp_path / "raw"
    for name in (
        "内科.jsonl".encode("gbk"),
        "外科/甲.jsonl".encode("gbk"),
        b"\xff\xff.jsonl",
        "儿科.jsonl".encode(),
        "儿科.jsonl".encode("gbk"),
    ):
        write(root / os.fsdecode(name), {**PAIR, "question": f"{name!r}"})
    recipe_path = tmp_path / "names.toml"
    recipe_path.write_text(f'[data]\nroot = "{root}"\n[[ingest.sources]]\nname = "x"\npath = "**/*.jsonl"\n', "utf-8")
    for _ in range(2):  # the second time digests are remembered
        assert main(["ingest", str(recipe_path), "--runs", str(tmp_path / "runs"), "--workers", "2"]) == 0
    [folder] = (tmp_path / "runs/names").glob("ingest-*")
    origins = {one.origin: one.turns[0].content for one in records.read(folder / "dialogues.jsonl", records.Dialogue)}
    expected = {
        "内科.jsonl:1": "内科.jsonl".encode("gbk"),
        "外科/甲.jsonl:1": "外科/甲.jsonl".encode("gbk"),
        "\\xff\\xff.jsonl:1": b"\xff\xff.jsonl",
        "儿科.jsonl:1": "儿科.jsonl".encode(),
        "\\xb6\\xf9\\xbf\\xc6.jsonl:1": "儿科.jsonl".encode("gbk"),
    }
    assert origins == {name: f"{raw!r}" for name, raw in expected.items()}
    assert read_manifest(folder).files.keys() == {name.removesuffix(":1") for name in expected}


def test_a_file_without_records_and_one_cut_at_once_are_told(tmp_path: Path) -> None:
    write(tmp_path / "empty.json", "[]")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(PAIR).encode())[:12])
    write(tmp_path / "strange.jsonl", "null")
    assert ingest(tmp_path, tmp_path / "out", Source(name="x", path="*.*")).dropped == {
        "corrupt_file": 1, "empty_file": 1, "unknown_format": 1,
    }  # fmt: skip
    details = {one.origin: one.detail for one in records.read(tmp_path / "out/rejects.jsonl", records.Reject)}
    assert details["empty.json:1"] == "no record in it"
    assert details["cut.jsonl.gz:1"].endswith("; nothing could be read") and "Error" not in details["cut.jsonl.gz:1"]
    assert "NoneType" not in details["strange.jsonl:1"]
