from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.books import Config, clean, documents, rejoin, run, split, wrap_width
from medchatzh.records import Document, Reject, read, write
from medchatzh.run import Context

BOOK = (
    "中医瑰宝苑\n\n<篇名>样本草\n书名：样本草\n作者：张样  \n朝代：清·乾隆  \n年份：公元1768年  \n\n\n\n"
    "<目录>\n\n<篇名>序\n\n属性：医者意也，余业医三十年，所见所闻随手札记，积久成帙，无门类，无次第，亦无奇方，不过一时之得 \n"
    "失，识之以自警耳∶儿辈请付诸梓，余曰∶此敝帚也，何足示人，儿曰父所失者人可以为戒父所得者人可以为 \n"
    "样\n乃听之。 \n\\x乾隆戊子张样序\\x \n\n\n\n"
    "<目录>卷上\\草部\n\n<篇名>甘草\n\n内容：味甘平，□主五脏六腑寒热邪气，坚筋骨，长肌肉，倍力。 \n-----------\n"
    "\\r甘草图\\p03-b44.bmp\\r生河西川谷，二月八月除日采根。http://www.example.com/a?b=1 \n\n"
    "<目录>卷上\\草部\n\n<篇名>黄精\n\n内容：缺。 \n\x1a"
)


def book(text: str, number: int = 1, name: str = "文件名") -> Document:
    return Document(id=f"tcm:{number}", source="tcm", origin=f"{number}.txt", text=text, book=name)


def made(*texts: str, config: Config | None = None) -> list[Document | Reject]:
    return list(documents([book(text, number) for number, text in enumerate(texts, 1)], config or Config()))


def test_a_book_becomes_chapters_that_know_their_place() -> None:
    site, preface, licorice, gap = made(BOOK)
    assert isinstance(preface, Document) and isinstance(licorice, Document)
    assert (preface.book, preface.author, preface.dynasty, preface.year, preface.chapter) == (
        "样本草",
        "张样",
        "清·乾隆",
        "公元1768年",
        "序",
    )
    assert licorice.chapter == "卷上/草部/甘草"
    assert licorice.id == "tcm:样本草/3"
    assert licorice.text == "味甘平，□主五脏六腑寒热邪气，坚筋骨，长肌肉，倍力。\n\n甘草图生河西川谷，二月八月除日采根。"
    assert set(licorice.edits) == {"figures", "urls", "rules", "lost_characters"}
    assert preface.text.endswith("\n乾隆戊子张样序") and "∶" not in preface.text
    assert isinstance(site, Reject) and (site.reason, site.detail) == ("short_chapter", "0 characters")
    assert isinstance(gap, Reject) and (gap.reason, gap.record.chapter) == ("short_chapter", "卷上/草部/黄精")


FULL = "夫病之所由生也皆因于外感六淫内伤七情饮食劳倦而医者不察其本徒治其标"


def test_wrapped_lines_are_rejoined_and_paragraphs_kept() -> None:
    width = len(FULL)
    assert rejoin(f"{FULL} \n未有不误人者。 \n{FULL}。 \n又一段。", width) == f"{FULL}未有不误人者。\n{FULL}。\n又一段。"
    assert rejoin(f"{FULL} \n可 \n不慎哉。 ", width) == f"{FULL}可不慎哉。"
    assert rejoin(f"{FULL}\n不是折行", width) == f"{FULL}\n不是折行"  # no space before the line end: the line was meant


def test_verse_and_lists_of_drugs_keep_their_lines() -> None:
    verse = "接骨一道手中出，须看出臼与折骨， \n肩骨跌出最易见，上肩骨子自耸出，"
    recipe = "当归（各一两） 川芎 白芍 熟地（酒炒，焙） \n水煎服。"
    for text in (verse, recipe):
        assert rejoin(text, 40).split("\n") == [line.strip() for line in text.split("\n")]


def test_an_open_bracket_goes_on() -> None:
    assert rejoin("生姜汁（半 \n升） 干柿", 40) == "生姜汁（半升） 干柿"


def test_wrap_width_is_zero_where_nothing_is_wrapped() -> None:
    assert wrap_width("一段。\n又一段。\n" * 9) == 0
    assert wrap_width(f"{FULL} \n" * 9) == len(FULL)


@pytest.mark.parametrize(
    ("text", "cleaned", "edits"),
    [
        ("腹\ue0a1痛", "腹□痛", ["private_use", "lost_characters"]),
        ("\\x【救生散】\\x人参 诃子", "【救生散】人参 诃子", ["bold_marks"]),
        ("\\r图\\p03-b26a51.bmp\\r", "", ["figures"]),
        ("岐伯曰∶然", "岐伯曰：然", ["ratio_colons"]),
        ("书末\x1a", "书末", ["control_characters"]),
        ("中医瑰宝苑 陈氏医案\n转自民间中医网\n正文", " 陈氏医案\n\n正文".lstrip(), ["site_lines"]),
        ("無或曰：仲景治傷寒，著三百一十三方。", "無或曰：仲景治傷寒，著三百一十三方。", []),
    ],
)
def test_clean_takes_away_what_digitisation_added(text: str, cleaned: str, edits: list[str]) -> None:
    assert clean(text) == (cleaned, edits)


@pytest.mark.parametrize("text", ["", "\0" * 500, "\n \n---\n", "\ue000\ue001\ue002甲"])
def test_what_is_no_book_is_garbage(text: str) -> None:
    (only,) = made(text)
    assert isinstance(only, Reject) and only.reason == "garbage"


def test_a_book_of_headings_alone_is_a_reject() -> None:
    (only,) = made("<目录>卷上\n\n<篇名>样书\n书名：样书\n作者：某 \n\n<篇名>论\n \n")
    assert isinstance(only, Reject)
    assert (only.id, only.reason, only.detail) == ("tcm:1", "short_chapter", "headings, and no text under any of them")


def test_a_text_without_markers_is_one_document() -> None:
    leaflet = "阿样匹林肠溶片\n【适应症】遵医嘱使用，用于解热镇痛。\n【禁忌】对本品过敏者禁用。"
    (only,) = made(leaflet)
    assert isinstance(only, Document)
    assert (only.id, only.book, only.chapter, only.text) == ("tcm:文件名/1", "文件名", "", leaflet)


def test_a_long_text_without_markers_is_split_at_lines_that_stand_alone() -> None:
    body = "此论外感之证治，当先辨其表里寒热虚实，而后立法处方，方不致误。" * 4
    text = f"前言之文字，{body}\n\n发热\n\n{body}其一。\n\n咳嗽\n\n{body}其二。\n"
    chapters = split(text, Config(split_unmarked_chars=100))[1]
    assert [chapter.name for chapter in chapters] == ["", "发热", "咳嗽"]
    assert len(split(text, Config())[1]) == 1


def test_a_passage_repeated_in_another_book_names_its_keeper() -> None:
    first, second = "<篇名>甲书\n书名：甲书\n\n<目录>\n<篇名>论\n" + FULL + "。", "<篇名>乙书\n书名：乙书\n\n<目录>\n<篇名>说\n" + FULL
    kept, repeated = (item for item in made(first, second))
    assert kept.id == "tcm:甲书/1"
    assert isinstance(repeated, Reject) and (repeated.reason, repeated.detail) == ("exact_duplicate", "tcm:甲书/1")
    assert len([item for item in made(first, second, config=Config(duplicates=False)) if isinstance(item, Document)]) == 2


def test_two_files_of_one_name_keep_distinct_ids() -> None:
    assert len({item.id for item in made(BOOK, BOOK.replace("医者意也", "医者易也"))}) == 8


def test_run_reports_books_dynasties_and_characters(tmp_path: Path) -> None:
    ingest, out = tmp_path / "ingest", tmp_path / "out"
    ingest.mkdir()
    out.mkdir()
    write(ingest / "books.jsonl", [book(BOOK), book("\0" * 99, 2)])
    result = run(Config(), {"ingest": ingest}, out, Context())
    kept = list(read(out / "documents.jsonl", Document))
    assert result.dropped == {"short_chapter": 2, "garbage": 1}
    assert result.num_in == result.num_out + 3 == len(kept) + 3
    assert result.facts["num_books"] == 1 and result.facts["num_chapters"] == 2
    assert result.facts["num_chars"] == sum(len(document.text) for document in kept)
    assert result.facts["dynasties"] == {"清·乾隆": 1}
    assert len(list(read(out / "rejects.jsonl", Reject))) == 3


def test_settings_out_of_range_fail() -> None:
    with pytest.raises(ValueError, match="max_lost_share"):
        Config(max_lost_share=0)


@given(st.lists(st.sampled_from(["夫病者，", "人参 白术 甘草", FULL, "。", " \n", "\n", "（", "）", "与"]), max_size=20).map("".join))
def test_rejoining_keeps_every_character_and_is_idempotent(text: str) -> None:
    joined = rejoin(text, len(FULL))
    assert "".join(joined.split()) == "".join(text.split())
    assert rejoin(joined, len(FULL)) == joined
