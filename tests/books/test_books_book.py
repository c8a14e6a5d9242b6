import msgspec
import pytest

from medchatzh.books import Config, passages
from medchatzh.books.book import read_book
from medchatzh.books.tree import Node, Tree, grow
from medchatzh.records import Document

BOOK = (
    "中医瑰宝苑\n\n<篇名>样本草\n书名：样本草\n作者：张样  \n朝代：清·乾隆  \n年份：公元1768年  \n\n\n\n"
    "<目录>\n\n<篇名>序\n\n属性：医者意也，余业医三十年，所见所闻随手札记，积久成帙，无门类，无次第，亦无奇方，不过一时之得 \n"
    "失，识之以自警耳∶儿辈请付诸梓，余曰∶此敝帚也，何足示人，儿曰父所失者人可以为戒父所得者人可以为 \n"
    "样\n乃听之。 \n\\x乾隆戊子张样序\\x \n\n\n\n"
    "<目录>卷上\\草部\n\n<篇名>甘草\n\n内容：味甘平，□主五脏六腑寒热邪气，坚筋骨，长肌肉，倍力。 \n-----------\n"
    "\\r甘草图\\p03-b44.bmp\\r生河西川谷，二月八月除日采根。http://www.example.com/a?b=1 \n\n"
    "<目录>卷上\\草部\n\n<篇名>浓朴/附\n\n内容：缺。 \n\x1a\n<目录>卷下\n\n<篇名>空题\n\n"
)


def file(text: str) -> Document:
    return Document(id="tcm:7", source="tcm", origin="a.zip!007-样.txt:1", text=text, book="文件名")


def test_a_book_becomes_chapters_that_know_their_place() -> None:
    tree, (preface, licorice), rejects = read_book(file(BOOK), "tcm:007-样", Config())
    assert (preface.book, preface.author, preface.dynasty, preface.year) == ("样本草", "张样", "清·乾隆", "公元1768年")
    assert (preface.id, preface.chapter, licorice.chapter) == ("tcm:007-样/1", "序", "卷上/草部/甘草")
    assert preface.text.endswith("\n乾隆戊子张样序") and "∶" not in preface.text
    assert licorice.text == "味甘平，□主五脏六腑寒热邪气，坚筋骨，长肌肉，倍力。\n甘草图生河西川谷，二月八月除日采根。"
    assert set(licorice.edits) == {"figures", "urls", "rules", "lost_characters"}
    assert [(reject.id, reject.reason, reject.detail) for reject in rejects] == [
        ("tcm:007-样/0", "short_chapter", "0 characters"),
        ("tcm:007-样/3", "short_chapter", "2 characters"),
    ]
    # a chapter that was dropped can be cited too; a heading without text has no id; a title's own slash is no step of the path
    assert tree.parts == [
        Node("序", "tcm:007-样/1", 3),
        Node("卷上", parts=[Node("草部", parts=[Node("甘草", "tcm:007-样/2", 2), Node("厚朴／附", "tcm:007-样/3", 1)])]),
        Node("卷下", parts=[Node("空题")]),
    ]
    assert (tree.id, tree.book, tree.origin, tree.traditional, tree.set_aside) == ("tcm:007-样", "样本草", "a.zip!007-样.txt:1", False, "")


def test_passages_are_the_lines_of_a_chapter() -> None:
    _, (_, licorice), _ = read_book(file(BOOK), "tcm:007-样", Config())
    assert [identity for identity, _ in passages(licorice)] == ["tcm:007-样/2#1", "tcm:007-样/2#2"]
    assert "\n".join(text for _, text in passages(licorice)) == licorice.text


def test_words_and_gaps_are_restored_only_in_the_marked_collection() -> None:
    text = "此方根据法用之，黄 煎之，余悉同前，以瘥为度，慎勿多服。"
    (marked,) = read_book(file(f"<篇名>甲\n{text}"), "k", Config()).documents
    (other,) = read_book(file(text), "k", Config()).documents
    assert (marked.text, marked.edits) == (text.replace("根据", "依").replace(" ", "□"), ("converted_words", "gaps", "lost_characters"))
    assert (other.text, other.edits) == (text, ())


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("\0" * 500, "garbage", "500 characters, none of them a letter"),
        ("<目录>卷上\n\n<篇名>样书\n书名：样书\n作者：某 \n\n<篇名>论\n \n", "no_text", "headings, and no text under any of them"),
    ],
)
def test_what_is_no_book_is_set_aside_whole(text: str, reason: str, detail: str) -> None:
    tree, documents, (reject,) = read_book(file(text), "tcm:007-样", Config())
    assert not documents and tree.set_aside == reason
    assert (reject.id, reject.reason, reject.detail, reject.record.text) == ("tcm:007-样", reason, detail, text[:200])


def test_a_text_without_markers_is_one_document() -> None:
    leaflet = "阿样匹林肠溶片\n【适应症】遵医嘱使用，用于解热镇痛。\n【禁忌】对本品过敏者禁用。"
    tree, (only,), rejects = read_book(file(leaflet), "tcm:文件名", Config())
    assert (only.id, only.book, only.chapter, only.text) == ("tcm:文件名/1", "文件名", "", leaflet)
    assert tree.parts == [Node("", "tcm:文件名/1", 3)] and not rejects


def test_a_traditional_text_is_told_and_not_converted() -> None:
    text = "傷寒之為病，其脈浮，陽氣盛則身熱，當用桂枝湯主之，餘無他證。"
    tree, (only,), _ = read_book(file(text), "k", Config())
    assert tree.traditional and only.text == text


def test_a_damaged_path_does_not_nest_without_end() -> None:
    text = "<目录>" + "\\".join("甲乙" * 5000) + "\n<篇名>题\n此方根治一切外感风寒发热头痛身疼无汗恶寒等证。"
    tree, (only,), _ = read_book(file(text), "k", Config())
    assert msgspec.json.decode(msgspec.json.encode(tree), type=Tree) == tree
    assert only.chapter.count("/") == 16


def test_neighbours_share_parts_and_a_part_may_be_a_chapter() -> None:
    tree = grow([(("甲",), "1", 2), (("甲", "乙"), "2", 1), (("丙",), "3", 1), (("甲", "丁"), "4", 1), (("甲", "丁"), "5", 1)])
    assert tree == [
        Node("甲", "1", 2, [Node("乙", "2", 1)]),
        Node("丙", "3", 1),
        Node("甲", parts=[Node("丁", "4", 1), Node("丁", "5", 1)]),
    ]
