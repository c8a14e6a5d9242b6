import random
from pathlib import Path

import pytest

from medchatzh.books import Config, passages, run, shard
from medchatzh.books.repeats import Repeat
from medchatzh.books.tree import Tree
from medchatzh.records import Document, Reject, read, write
from medchatzh.run import Context, Result
from medchatzh.shards import SCRATCH

OUTPUTS = ("documents.jsonl", "rejects.jsonl", "tree.jsonl", "repeats.jsonl")
COMMON = "此方治一切外感风寒发热头痛身疼无汗恶寒咳嗽鼻塞声重等证服之皆效验"


def text(seed: int, length: int = 300) -> str:
    return "".join(random.Random(seed).choices([chr(point) for point in range(0x4E00, 0x9FA5)], k=length))


def marked(title: str, *chapters: str) -> str:
    return f"<篇名>{title}\n书名：{title}\n朝代：清\n" + "".join(
        f"<目录>卷一\n<篇名>第{n}\n属性：{body}\n" for n, body in enumerate(chapters, 1)
    )


def file(name: str, content: str) -> Document:
    return Document(id="tcm:0", source="tcm", origin=f"books/{name}.txt:1", text=content, book=name)


BOOKS = [
    file("01-甲书", marked("甲书", text(1), f"{COMMON}\n{text(2)}", "太短")),
    file("02-乙书", marked("乙书", text(1), f"{text(3)}\n{COMMON}。", text(4)[:-3] + "末三字")),
    file("03-丙书", marked("丙书", text(4), text(2)[:40])),
    file("04-丁书", "\0" * 99),
    file("05-戊书", marked("戊书", text(1))),
    file("06-己书", marked("己书", COMMON)),
]


def made(books: list[Document], folder: Path, config: Config | None = None, workers: int = 1) -> tuple[Result, Path]:
    ingest, out = folder / "ingest", folder / "out"
    ingest.mkdir(parents=True)
    out.mkdir()
    write(ingest / "books.jsonl", books)
    return run(config or Config(), {"ingest": ingest}, out, Context(workers=workers)), out


def kept(out: Path) -> dict[str, Document]:
    return {document.id: document for document in read(out / "documents.jsonl", Document)}


def rejects(out: Path) -> set[tuple[str, str, str]]:
    return {(reject.id, reject.reason, reject.detail) for reject in read(out / "rejects.jsonl", Reject)}


def test_all_files_and_chapters_are_accounted_for(tmp_path: Path) -> None:
    result, out = made(BOOKS, tmp_path)
    assert list(kept(out)) == [
        "tcm:01-甲书/1",
        "tcm:01-甲书/2",
        "tcm:02-乙书/2",
        "tcm:02-乙书/3",
        "tcm:03-丙书/1",
        "tcm:03-丙书/2",
        "tcm:06-己书/1",
    ]
    assert rejects(out) == {
        ("tcm:01-甲书/3", "short_chapter", "2 characters"),
        ("tcm:02-乙书/1", "exact_duplicate", "tcm:01-甲书/1"),
        ("tcm:04-丁书", "garbage", "99 characters, none of them a letter"),
        ("tcm:05-戊书/1", "exact_duplicate", "tcm:01-甲书/1"),
    }
    assert result.dropped == {"short_chapter": 1, "exact_duplicate": 2, "garbage": 1}
    assert result.num_in == result.num_out + sum(result.dropped.values()) == 11
    facts = result.facts
    assert facts["files"] == {"read": 6, "kept": 4, "set_aside": {"all_chapters_dropped": 1, "garbage": 1}}
    assert facts["num_books"] == 4 and facts["dynasties"] == {"清": 4}
    assert facts["num_chapters"] == result.num_out and facts["num_passages"] == 9
    assert facts["num_chars"] == sum(len(document.text) for document in kept(out).values())
    assert [(tree.id, tree.set_aside) for tree in read(out / "tree.jsonl", Tree)] == [
        (f"tcm:{book.book}", "garbage" * ("丁" in book.book)) for book in BOOKS
    ]


def test_repeats_name_the_first_place_and_stay(tmp_path: Path) -> None:
    result, out = made(BOOKS, tmp_path)
    near, *said = sorted(read(out / "repeats.jsonl", Repeat), key=lambda repeat: -repeat.jaccard)
    assert (near.id, near.first) == ("tcm:03-丙书/1", "tcm:02-乙书/3") and 0.9 < near.jaccard < 1
    assert said == [
        Repeat(id="tcm:02-乙书/2#2", first="tcm:01-甲书/2#1", num_chars=len(COMMON)),
        Repeat(id="tcm:06-己书/1#1", first="tcm:01-甲书/2#1", num_chars=len(COMMON)),
    ]
    assert result.facts["repeats"] == {
        "num_passages": 2,
        "num_chars": 2 * len(COMMON),
        "num_near_chapters": 1,
        "num_pairs_of_books": 2,
        "pairs_of_books": {"tcm:02-乙书 < tcm:01-甲书": 1, "tcm:06-己书 < tcm:01-甲书": 1},
    }


def test_repeated_passages_and_near_chapters_are_dropped_on_request(tmp_path: Path) -> None:
    result, out = made(BOOKS, tmp_path, Config(drop_repeated_passages=True, drop_near_duplicates=True))
    plain = kept(made(BOOKS, tmp_path / "plain")[1])
    changed = kept(out)
    assert plain.keys() - changed.keys() == {"tcm:03-丙书/1", "tcm:06-己书/1"}
    assert changed["tcm:02-乙书/2"].text == text(3) + "\n" and changed["tcm:02-乙书/2"].edits[-1] == "repeated_passages"
    assert ("tcm:06-己书/1", "repeated_passages", "tcm:01-甲书/2#1") in rejects(out)
    assert ("near_duplicate", 1) in result.dropped.items()
    assert result.num_in == result.num_out + sum(result.dropped.values()) == 11


def test_a_passage_that_is_taken_out_does_not_move_the_others(tmp_path: Path) -> None:
    books = [BOOKS[0], file("02-乙书", marked("乙书", f"{text(5)}\n{COMMON}\n{text(6)}"))]
    _, out = made(books, tmp_path, Config(drop_repeated_passages=True))
    assert dict(passages(kept(out)["tcm:02-乙书/1"])) == {"tcm:02-乙书/1#1": text(5), "tcm:02-乙书/1#3": text(6)}


def test_duplicates_may_stay(tmp_path: Path) -> None:
    result, out = made(BOOKS, tmp_path, Config(duplicates=False))
    assert {"tcm:02-乙书/1", "tcm:05-戊书/1"} <= kept(out).keys() and "exact_duplicate" not in result.dropped
    assert ("tcm:05-戊书/1", 1.0) in {(repeat.id, repeat.jaccard) for repeat in read(out / "repeats.jsonl", Repeat)}


@pytest.mark.parametrize("place", [0, 2, 6])
def test_another_book_changes_no_id(tmp_path: Path, place: int) -> None:
    more = file("00-甲书", marked("甲书", text(9), text(8)))
    before = kept(made(BOOKS, tmp_path / "before")[1])
    after = kept(made([*BOOKS[:place], more, *BOOKS[place:]], tmp_path / "after")[1])
    assert after.keys() - before.keys() == {"tcm:00-甲书/1", "tcm:00-甲书/2"}
    assert all(after[identity] == document for identity, document in before.items())


def test_files_of_one_name_and_texts_of_one_file_keep_distinct_ids(tmp_path: Path) -> None:
    here, there = file("a/样 书", text(1)), file("b/样 书", text(2))
    leaflets = [Document(id=f"drug:{row}", source="drug", origin=f"drug.json:{row}", text=text(10 + row), book="样片") for row in (1, 2)]
    first, second, *others = kept(made([here, there, *leaflets], tmp_path)[1])
    assert first == "tcm:样_书/1" and second.startswith("tcm:样_书~") and others == ["drug:1/1", "drug:2/1"]


@pytest.mark.parametrize("workers", [2, 8])
def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(shard, "_SHARD_BYTES", 1000)
    many = BOOKS + [file(f"{n:02}-样书", marked("样书", text(n), text(n + 1), COMMON)) for n in range(10, 20)]
    one, out = made(many, tmp_path / "one")
    several, other = made(many, tmp_path / "several", workers=workers)
    assert len(list((other / SCRATCH / "books").iterdir())) > 8
    assert one == several
    for name in OUTPUTS:
        assert (out / name).read_bytes() == (other / name).read_bytes()


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "_SHARD_BYTES", 1000)
    expected, out = made(BOOKS, tmp_path / "whole")
    read_book = shard.read_book
    seen: list[str] = []

    def killed(book: Document, key: str, config: Config):  # type: ignore[no-untyped-def]
        seen.append(key)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return read_book(book, key, config)

    monkeypatch.setattr(shard, "read_book", killed)
    with pytest.raises(KeyboardInterrupt):
        made(BOOKS, tmp_path / "cut")
    cut = tmp_path / "cut" / "out"
    (cut / "rejects.jsonl").open("ab").write(b"half a li")  # a kill while the last step was writing
    assert run(Config(), {"ingest": tmp_path / "cut" / "ingest"}, cut, Context()) == expected
    assert len(seen) <= len(BOOKS) + 2  # at most one shard was made again
    for name in OUTPUTS:
        assert (cut / name).read_bytes() == (out / name).read_bytes()


def test_no_books_give_empty_files(tmp_path: Path) -> None:
    result, out = made([], tmp_path)
    assert (result.num_in, result.num_out, result.facts["files"]["read"]) == (0, 0, 0)
    assert all((out / name).read_bytes() == b"" for name in OUTPUTS)


def test_a_line_that_is_no_book_is_named(tmp_path: Path) -> None:
    made(BOOKS[:1], tmp_path)
    ingest, out = tmp_path / "ingest", tmp_path / "again"
    out.mkdir()
    with (ingest / "books.jsonl").open("a") as books:
        books.write('{"id": "tcm:9", "text": 7}\n')
    with pytest.raises(ValueError, match=r"books\.jsonl:2: not a Document: .*\$\.text"):
        run(Config(), {"ingest": ingest}, out, Context())


@pytest.mark.parametrize("settings", [{"max_lost_share": 0.0}, {"near_duplicate": 1.5}, {"min_chars": 0}, {"min_repeat_chars": 0}])
def test_settings_out_of_range_fail(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Config(**settings)
