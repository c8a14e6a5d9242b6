from hypothesis import given
from hypothesis import strategies as st

from medchatzh.books.lines import rejoin, wrap_width

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
    assert rejoin("一十八种 《样 \n本草》七种 《某书》二种", 40) == "一十八种 《样本草》七种 《某书》二种"
    assert rejoin("某按：（此句一作“某。” \n字，误。）", 40) == "某按：（此句一作“某。”字，误。）"


def test_each_line_is_a_passage_so_none_is_blank() -> None:
    assert rejoin("\n\n一段。\n \n\u3000\n又一段。\n\n", 40) == "一段。\n又一段。"


def test_wrap_width_is_zero_where_nothing_is_wrapped() -> None:
    assert wrap_width("一段。\n又一段。\n" * 9) == 0
    assert wrap_width("接骨一道手中出，须看出臼与折骨， \n" * 9) == 0  # a book of verse
    assert wrap_width(f"{FULL} \n" * 9) == len(FULL)


def test_a_full_line_within_a_paragraph_goes_on_though_a_sentence_ends_there() -> None:
    width = len(FULL)
    full = FULL[:-1] + "。"
    assert rejoin(f"{FULL} \n{full} \n又一句。 ", width) == f"{FULL}{full}又一句。"
    assert rejoin(f"{FULL} \n{full} \n【主治】某证。 ", width) == f"{FULL}{full}\n【主治】某证。"
    assert rejoin(f"{full} \n{full} \n又一句。 ", width) == f"{full}\n{full}\n又一句。"  # verse or items, each a line


@given(st.lists(st.sampled_from(["夫病者，", "人参 白术 甘草", FULL, "。", " \n", "\n", "（", "）", "与"]), max_size=20).map("".join))
def test_rejoining_keeps_every_character_and_is_idempotent(text: str) -> None:
    joined = rejoin(text, len(FULL))
    assert "".join(joined.split()) == "".join(text.split())
    assert rejoin(joined, len(FULL)) == joined
