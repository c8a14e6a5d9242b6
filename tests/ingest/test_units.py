"""Ingest in pieces: the same bytes for any number of workers, ids and origins of a single pass, and counts that balance by file."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from medchatzh import records
from medchatzh.ingest import Config, Source, Tally, raw_files, read_source, run, units
from medchatzh.run import Context, Result

OUTPUTS = ("dialogues.jsonl", "books.jsonl", "preferences.jsonl", "questions.jsonl", "rejects.jsonl")


def line(number: int) -> str:
    """Good and bad rows in turn, blank lines among them."""
    if number % 11 == 3:
        return '{"question": "断'
    if number % 13 == 5:
        return "  "
    if number % 17 == 7:
        return json.dumps({"instruction": "写诗", "instances": [{"input": "夏", "output": f"荷{number}"}, {"input": "冬", "output": ""}]})
    return json.dumps({"question": f"胃痛第{number}天怎么办？", "answer": "规律饮食，忌辛辣。" * (number % 5)}, ensure_ascii=False)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Large files (for units of 2,000 bytes) of several kinds, and small ones."""
    monkeypatch.setattr(units, "UNIT_BYTES", 2000)
    root = tmp_path / "raw"
    root.mkdir()
    (root / "a.jsonl").write_text("\n".join(map(line, range(300))))
    (root / "b.jsonl").write_bytes(("\n" * 3000 + "\r\n".join(map(line, range(100))) + "\n").encode("gb18030"))
    (root / "c.json").write_text(
        json.dumps([{"instruction": f"问{n}", "output": f"答{n}"} for n in range(200)], ensure_ascii=False, indent=1)
    )
    (root / "d.jsonl.gz").write_bytes(gzip.compress("\n".join(map(line, range(200))).encode()))
    (root / "e.jsonl").write_bytes("\n".join(map(line, range(90))).encode("utf-16"))
    (root / "f.jsonl").write_text("")
    for name in "ghi":
        (root / f"{name}.jsonl").write_text(line(0) + "\n" + line(3))
    with zipfile.ZipFile(root / "j.zip", "w") as archive:
        for name in "ab":
            archive.writestr(f"{name}.jsonl", "\n".join(map(line, range(50))))
    web = "".join(f"{n}\t{label}\t内科\t问{n}\t答{label}\n" for n in range(60) for label in "10")
    (root / "web.txt").write_text(web)
    return root


SOURCES = (
    Source(name='多"件', path="[a-j].*"),
    Source(name="few", path="a.jsonl", limit=20),
    Source(name="web", path="web.txt"),
    Source(name="one", path="a.jsonl", format="question_answer"),
)


def ingest(root: Path, out: Path, *sources: Source, workers: int = 1) -> Result:
    out.mkdir()
    config = Config(sources=sources)
    return run(config, {}, out, Context(workers=workers), files=raw_files(config, root))


def whole(root: Path, *sources: Source) -> dict[str, list[bytes]]:
    """What one pass over each source, uncut, gives: output file → lines."""
    found: dict[str, list[bytes]] = {name: [] for name in OUTPUTS}
    for source in sources:
        files = raw_files(Config(sources=(source,)), root)
        for record in read_source(source, files, Tally()):
            found[units.FILES[type(record)]].append(records._encoder.encode(record))
    return found


def all_units(root: Path) -> list[units.Unit]:
    return [unit for source in SOURCES for unit in units.cut(source, raw_files(Config(sources=(source,)), root))]


def test_units_give_what_a_single_pass_gives(corpus: Path, tmp_path: Path) -> None:
    made = all_units(corpus)
    spans = [next(iter(unit.files)) for unit in made if unit.span]
    assert set(spans) == {"a.jsonl", "b.jsonl"} and len(spans) > 20
    assert sum(unit.source.name == "few" for unit in made) == 1
    assert {"g.jsonl", "h.jsonl"} < {name for unit in made if len(unit.files) > 1 for name in unit.files}
    ingest(corpus, tmp_path / "out", *SOURCES)
    expected = whole(corpus, *SOURCES)
    assert len(expected["dialogues.jsonl"]) > 500
    for name in OUTPUTS:
        assert (tmp_path / "out" / name).read_bytes().splitlines() == expected[name], name


def test_the_number_of_workers_does_not_change_a_byte(corpus: Path, tmp_path: Path) -> None:
    results = {workers: ingest(corpus, tmp_path / f"out{workers}", *SOURCES[:2], workers=workers) for workers in (1, 2, 8)}
    for workers in (2, 8):
        assert results[workers] == results[1]
        for name in OUTPUTS:
            assert (tmp_path / f"out{workers}" / name).read_bytes() == (tmp_path / "out1" / name).read_bytes()


def test_kept_and_rejected_are_all_rows_of_each_file(corpus: Path, tmp_path: Path) -> None:
    result = ingest(corpus, tmp_path / "out", *SOURCES[:1])
    files = result.facts["files"]
    assert set(files) == set(raw_files(Config(sources=SOURCES[:1]), corpus))
    assert all(fact["num_kept"] + fact["num_rejected"] == fact["num_rows"] for fact in files.values())
    assert sum(fact["num_rows"] for fact in files.values()) == result.num_in
    blank = sum(not line(n).strip() for n in range(300))
    split = sum("instances" in line(n) for n in range(300))
    assert files["a.jsonl"]["num_rows"] == 300 - blank + split
    assert files["c.json"] == {"num_rows": 200, "num_kept": 200, "num_rejected": 0}
    assert files["f.jsonl"] == {"num_rows": 1, "num_kept": 0, "num_rejected": 1}
    rejects = list(records.read(tmp_path / "out/rejects.jsonl", records.Reject))
    for name, fact in files.items():
        assert sum(one.origin.startswith((f"{name}:", f"{name}!")) for one in rejects) == fact["num_rejected"]


def test_a_killed_run_goes_on(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(corpus, tmp_path / "whole", *SOURCES)
    calls = 0

    def dies(unit: units.Unit, folder: Path) -> Tally:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise KeyboardInterrupt
        return units.read_unit(unit, folder)

    monkeypatch.setattr("medchatzh.ingest.read_unit", dies)
    with pytest.raises(KeyboardInterrupt):
        ingest(corpus, tmp_path / "killed", *SOURCES)
    num_done = calls - 1
    config = Config(sources=SOURCES)
    run(config, {}, tmp_path / "killed", Context(), files=raw_files(config, corpus))
    assert calls - 10 == len(all_units(corpus)) - num_done
    for name in OUTPUTS:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_pieces_know_the_encoding_that_shows_itself_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 100_000)
    rows = [{"question": f"q{number}", "answer": "a" * 1000} for number in range(300)]
    late = [json.dumps(row) for row in rows] + [json.dumps({"question": "胃痛", "answer": "规律饮食"}, ensure_ascii=False)] * 9
    (tmp_path / "a.jsonl").write_bytes("\n".join(late).encode("gb18030"))
    result = ingest(tmp_path, tmp_path / "out", Source(name="x", path="a.jsonl"))
    assert result.facts["sources"]["x"] == {
        "format": "question_answer", "encodings": {"gb18030": 1}, "num_files": 1, "num_rows": 309, "num_kept": 309,
    }  # fmt: skip
    kept = list(records.read(tmp_path / "out/dialogues.jsonl", records.Dialogue))
    assert [(one.id, one.origin) for one in kept] == [(f"x:{number}", f"a.jsonl:{number}") for number in range(1, 310)]
    assert kept[-1].question == "胃痛"
