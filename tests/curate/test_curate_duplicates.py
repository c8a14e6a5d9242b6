"""Duplicates: what is the same, what is near, who stays, and that nothing else is dropped."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medchatzh.curate import duplicates
from medchatzh.curate.batch import Batch
from medchatzh.curate.duplicates import Duplicates, Keys, detail, find, shingles
from medchatzh.curate.normal import normal_texts
from medchatzh.records import Dialogue, Turn, normalize

HANZI = "的病人医药症疗痛热咳血压糖尿心肝肺肾脾胃肠骨肌皮眼耳鼻喉口牙手足头颈胸腹背腰膝寒湿风火燥虚实阴阳气津液经络脉舌苔黄白红紫干润"


def talk(number: int, question: str, answer: str = "多喝水，注意休息。") -> Dialogue:
    return Dialogue(id=f"t:{number}", turns=(Turn("user", question), Turn("assistant", answer)))


def grams(record: Dialogue) -> set[str]:
    text = normalize("".join(turn.content for turn in record.turns))
    return {text[start : start + 5] for start in range(max(1, len(text) - 4))}


def similarity(one: Dialogue, other: Dialogue) -> float:
    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


def keys(records: list[Dialogue], how: Duplicates) -> Keys:
    return duplicates.keys(Batch(records), np.arange(len(records)), how)


def drops(records: list[Dialogue], **settings: object) -> dict[str, tuple[str, str]]:
    how = Duplicates(**settings)
    found = find(keys(records, how).__getitem__, len(records), how, lambda rows: shingles([records[row] for row in rows]))
    return {records[row].id: (reason, detail(reason, records[keeper].id, near)) for row, reason, keeper, near in found.each()}


def text(chance: random.Random, length: int) -> str:
    return "".join(chance.choices(HANZI, k=length))


@given(st.lists(st.text(max_size=30), max_size=5))
@example(
    [
        "ΑΣ ας",
        "e\u0301 é",
        "㎎ ① ½",
        "\ud800",
        "👨‍👩‍👧",
        "한 ᄒ\u1161",
        "İ",
        "ﬁ",
        "𠀀𡃁",
        "\U0002fa20",
        "\U000e0100",
        "_x_",
        "\U0002f800",
        "Ａ１",
        "ㄱㅏ ㈀",
        "𝚺 𝛢𝚺",
        "⑴㎎㋿﷽½" * 40,
        "か\uff9e ｶﾞ",
    ]
)
def test_normalised_texts_are_those_of_records(texts: list[str]) -> None:
    codes, starts = normal_texts(texts)
    made = [codes[start:end].tobytes().decode("utf-32-le", "surrogatepass") for start, end in pairwise(starts)]
    assert made == [normalize(one) for one in texts]


def test_every_character_is_normalised_as_in_records() -> None:
    characters = [chr(code) for code in range(0x20000)]
    texts = [f"a{character}b" for character in characters]
    codes, starts = normal_texts(texts)
    for one, start, end in zip(texts, starts, starts[1:], strict=False):
        assert codes[start:end].tobytes().decode("utf-32-le", "surrogatepass") == normalize(one), hex(ord(one[1]))


def test_equal_but_for_width_case_and_punctuation() -> None:
    records = [talk(1, "感冒了，怎么办？"), talk(2, "ＶＣ能吃吗"), talk(3, "感冒了 怎么办"), talk(4, "vc能吃吗？！"), talk(5, "咳嗽")]
    assert drops(records, near=False) == {"t:3": ("exact_duplicate", "t:1"), "t:4": ("exact_duplicate", "t:2")}
    assert drops(records, near=False, exact=False) == {}


def planted(chance: random.Random, num: int) -> tuple[list[Dialogue], list[tuple[int, int, float]]]:
    """Records in random order, and pairs (row, row, similarity) of originals and their changed copies."""
    records: list[Dialogue] = []
    pairs = []
    for _ in range(num):
        words = list(text(chance, chance.randint(30, 300)))
        original = talk(len(records), "".join(words[:10]), "".join(words[10:]))
        for _ in range(chance.randint(0, max(1, len(words) // 30))):
            place = chance.randrange(len(words))
            words[place : place + chance.randint(0, 2)] = text(chance, chance.randint(0, 2))
        copy = talk(len(records) + 1, "".join(words[:10]), "".join(words[10:]))
        pairs.append((len(records), len(records) + 1, similarity(original, copy)))
        records += [original, copy]
    return records, pairs


def test_near_duplicates_are_found_and_only_they() -> None:
    records, pairs = planted(random.Random(7), 1500)
    near = [(one, other) for one, other, how in pairs if how >= 0.8]
    assert len(near) > 400 and sum(how < 0.8 for *_, how in pairs) > 300
    found = drops(records)
    assert sum(records[other].id in found for _, other in near) >= 0.98 * len(near)
    for dropped, (reason, told) in found.items():
        keeper, _, how = told.partition(" ")
        true = similarity(records[int(dropped[2:])], records[int(keeper[2:])])
        assert int(keeper[2:]) < int(dropped[2:]) and keeper not in found
        assert true >= 0.8 if reason == "near_duplicate" else true == 1
        assert abs(true - float(how or 1)) < 6e-4


def test_the_earliest_similar_kept_record_is_named_and_a_dropped_one_keeps_nobody_out() -> None:
    chance = random.Random(1)
    base = text(chance, 200)
    step = [base[: 190 - 14 * number] + text(random.Random(number), 10 + 14 * number) for number in (0, 1, 2, 3)]
    records = [talk(number, "问", one) for number, one in enumerate(step)]
    table = np.array([[similarity(one, other) for other in records] for one in records])
    kept: list[int] = []
    wanted = {}
    for row in range(len(records)):
        keeper = next((other for other in kept if table[row, other] >= 0.8), None)
        if keeper is None:
            kept.append(row)
        else:
            wanted[f"t:{row}"] = ("near_duplicate", f"t:{keeper} {table[row, keeper]:.3f}")
    assert len(kept) > 1 and wanted
    assert drops(records) == wanted


def test_many_copies_of_a_template_are_all_found() -> None:
    chance = random.Random(3)
    template = text(chance, 150)
    records = [talk(number, "问", template + f"{number:03}") for number in range(300)]
    assert set(drops(records)) == {f"t:{number}" for number in range(1, 300)}


@pytest.mark.parametrize(
    ("policy", "dropped"),
    [("keep", {}), ("first", {"t:1": "t:0", "t:2": "t:0"}), ("longest", {"t:0": "t:1", "t:2": "t:1"})],
)
def test_answers_to_one_question(policy: str, dropped: dict[str, str]) -> None:
    answers = ["可以吃。", "可以吃，饭后半小时温水送服为好。", "遵医嘱服用就好，别超量。"]
    records = [talk(number, "阿莫西林能吃吗？", answer) for number, answer in enumerate(answers)] + [talk(3, "头孢能吃吗？")]
    assert drops(records, same_question=policy) == {one: ("same_question", keeper) for one, keeper in dropped.items()}


def test_nothing_and_empty_texts() -> None:
    assert drops([]) == {}
    assert drops([talk(0, "？", "！"), talk(1, "。", "")]) == {"t:1": ("exact_duplicate", "t:0")}


def test_a_threshold_that_candidates_cannot_serve_is_refused() -> None:
    with pytest.raises(ValueError, match="min_similarity"):
        Duplicates(min_similarity=0.3)
    assert duplicates.REASONS == ("exact_duplicate", "near_duplicate", "same_question")


def test_a_keeper_is_kept_itself() -> None:
    base = text(random.Random(9), 120)
    records = [talk(0, "问", base), talk(1, "问", base[:118] + "乙"), talk(2, "问？", base[:118] + "，乙")]
    found = drops(records)
    assert found["t:1"][0] == "near_duplicate" and found["t:2"] == found["t:1"] and found["t:1"][1].startswith("t:0 ")


def test_questions_without_a_letter_are_not_the_same_question() -> None:
    assert drops([talk(0, "？？？", "多喝水，注意休息。"), talk(1, "…", "避免久坐，适当活动。")], same_question="first") == {}
