import pytest

from medchatzh.books.digitisation import LOST, clean, is_traditional, not_a_book, restore


@pytest.mark.parametrize(
    ("text", "cleaned", "edits"),
    [
        ("腹\ue0a1痛", "腹□痛", ["private_use"]),
        ("\\x【救生散】\\x人参 诃子", "【救生散】人参 诃子", ["bold_marks"]),
        ("\\r图\\p03-b26a51.bmp\\r", "", ["figures"]),
        ("\\r样草图\\ps11a8.bmp\n正文", "样草图\n正文", ["figures"]),  # the closing mark is missing
        ("\\r样纹\\pyf5\\r 弯者", "样纹 弯者", ["figures"]),
        ("岐伯曰∶然", "岐伯曰：然", ["ratio_colons"]),
        ("书末\x1a", "书末", ["control_characters"]),
        ("中医瑰宝苑 陈氏医案\n转自民间中医网\n正文", "陈氏医案\n\n正文", ["site_lines"]),
        ("- 12 -\n正文\n@@@\n###样题###", "\n正文\n\n样题", ["rules"]),
        ("治&#8226;气逆", "治•气逆", ["entities"]),
        ("凡手KT 手腕，目KTKT 然，铅HT也", "凡手□手腕，目□□然，铅□也", ["typesetters_marks"]),
        ("T波平坦，作CT片，HTML", "T波平坦，作CT片，HTML", []),
        ("無或曰：仲景治傷寒，著三百一十三方。", "無或曰：仲景治傷寒，著三百一十三方。", []),
    ],
)
def test_clean_takes_away_what_digitisation_added(text: str, cleaned: str, edits: list[str]) -> None:
    assert clean(text) == (cleaned, edits)


@pytest.mark.parametrize(
    ("text", "restored", "edits"),
    [
        ("主治疥 、疮 。（一作 ）", "主治疥□、疮□。（一作□）", ["gaps"]),  # after a hanzi and before punctuation
        ("上 咀，水煎服。", "上□咀，水煎服。", ["gaps"]),
        ("此证初起，黄 煎之，余同。", "此证初起，黄□煎之，余同。", ["gaps"]),
        ("样丸 治久病，虚者。", "样丸 治久病，虚者。", []),  # the first clause of a line is often a title
        ("服药后，样甲散 治头痛，效。", "服药后，样甲散 治头痛，效。", []),
        ("共为末，人参 白术 茯苓，水煎。", "共为末，人参 白术 茯苓，水煎。", []),  # a list of drugs
        ("当归（一两） 川芎（五钱）", "当归（一两） 川芎（五钱）", []),
        ("毒瓦斯入内，浓朴根据法炙，解野狼毒", "毒气入内，厚朴依法炙，解狼毒", ["converted_words"]),
        ("浓煎服之，其色浓者佳", "浓煎服之，其色浓者佳", []),
    ],
)
def test_restore_marks_losses_and_turns_words_back(text: str, restored: str, edits: list[str]) -> None:
    assert restore(text) == (restored, edits)
    assert restore(restored) == (restored, [])


def test_traditional_script_is_told_by_its_commonest_characters() -> None:
    assert is_traditional("傷寒之為病，其脈浮，陽氣盛則身熱。諸湯無證者")
    assert not is_traditional("伤寒之为病，其脉浮，阳气盛则身热。诸汤无证者。著，乾，後")
    assert not is_traditional("")


@pytest.mark.parametrize("text", ["", "\0" * 500, "\n \n---\n", "\ue000\ue001\ue002甲", LOST * 9 + "甲"])
def test_what_is_no_book_is_told(text: str) -> None:
    assert not_a_book(text, 0.3)


def test_a_book_with_few_lost_characters_is_a_book() -> None:
    assert not not_a_book("人参□" * 9, 0.4)
