import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.books.repeats import compare, keys, repeated, shingles
from medchatzh.records import Document, normalize

HANZI = [chr(point) for point in range(0x4E00, 0x9FA5)]


def document(number: int, text: str) -> Document:
    return Document(id=f"样:{number}", text=text)


def found(*texts: str, threshold: float = 0.8, exact: bool = True) -> tuple[dict[int, int], dict[int, tuple[int, float]]]:
    documents = [document(number, text) for number, text in enumerate(texts)]
    chapters, _ = keys(documents, range(len(documents)), 30)
    return compare(chapters, threshold, lambda wanted: ((index, documents[index]) for index in sorted(wanted)), exact=exact)


def jaccard(one: str, other: str) -> float:
    def runs(text: str) -> set[str]:
        folded = normalize(text)
        return {folded[start : start + 5] for start in range(max(1, len(folded) - 4))}

    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


def changed(text: str, num: int, chance: random.Random) -> str:
    letters = list(text)
    for place in chance.sample(range(len(letters)), num):
        letters[place] = chance.choice(HANZI)
    return "".join(letters)


def test_an_equal_chapter_names_the_first_whatever_its_punctuation() -> None:
    text = "味甘平无毒主五脏六腑寒热邪气坚筋骨长肌肉倍气力解毒久服轻身延年"
    exact, near = found(text, "别的一章" * 9, text[:9] + "，" + text[9:] + "。", text)
    assert exact == {2: 0, 3: 0} and not near
    exact, near = found(text, "别的一章" * 9, text + "。", exact=False)
    assert not exact and near == {2: (0, 1.0)}


def test_near_chapters_are_found_and_no_others() -> None:
    chance = random.Random(1)
    texts, expected = [], {}
    for _ in range(150):
        text = "".join(chance.choices(HANZI, k=400))
        twin = changed(text, chance.randrange(1, 20), chance)
        texts += [text, twin]
        if (similarity := jaccard(text, twin)) >= 0.8:
            expected[len(texts) - 1] = (len(texts) - 2, pytest.approx(similarity))
    _, near = found(*texts)
    assert len(expected) > 50
    assert near.keys() <= expected.keys() and len(near) >= 0.98 * len(expected)
    assert all(near[index] == expected[index] for index in near)


def test_of_several_near_chapters_the_nearest_is_named() -> None:
    chance = random.Random(2)
    text = "".join(chance.choices(HANZI, k=2000))
    far, close = changed(text, 30, chance), changed(text, 2, chance)
    _, near = found(far, close, text)
    assert near[2][0] == 1


def test_passages_are_repeated_only_from_another_book_and_if_they_are_long() -> None:
    long, short = "此方治一切外感风寒发热头痛身疼无汗恶寒咳嗽鼻塞声重等证服之皆效", "水煎服"
    documents = [document(0, f"{long}\n{short}"), document(1, long), document(2, f"{short}\n别的\n，{long}。"), document(3, long)]
    chapters, passages = keys(documents, [0, 0, 1, 2], 30)
    assert [(int(p["chapter"]), int(p["line"])) for p in passages] == [(0, 1), (1, 1), (2, 3), (3, 1)]
    assert list(repeated(passages, chapters["book"], [])) == [(2, 0), (3, 0)]  # book 0's own second chapter is no quotation
    assert list(repeated(passages, chapters["book"], [0])) == [(2, 1), (3, 1)]  # what was dropped is no keeper
    assert list(repeated(passages, chapters["book"], [0, 1])) == [(3, 2)]


@given(st.text(alphabet="甲乙丙\U00020000", max_size=40))
def test_shingles_agree_with_the_runs_of_five_characters(text: str) -> None:
    runs = [text[start : start + 5] for start in range(max(1, len(text) - 4))]
    hashes = shingles(text).tolist()
    assert len(hashes) == len(runs)
    assert len(set(hashes)) == len(set(runs)) == len(set(zip(hashes, runs, strict=True)))


def test_a_sketch_of_a_whole_book_is_that_of_its_pieces() -> None:
    text = "".join(random.Random(3).choices(HANZI, k=150_000))
    chapters, _ = keys([document(0, text), document(1, text[:80_004]), document(2, text[80_000:])], [0, 1, 2], 30)
    assert (chapters["sketch"][0] == np.minimum(chapters["sketch"][1], chapters["sketch"][2])).all()
