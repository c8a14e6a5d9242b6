"""Decontamination: planted leaks are found, each in its kind, and the fast gate misses nothing that the exact look finds."""

import random
from pathlib import Path

import numpy as np
import pytest

from medchatzh.curate.batch import Batch
from medchatzh.curate.benchmark import Benchmark, Decontamination
from medchatzh.records import Dialogue, Question, Turn, normalize

HANZI = "的病人医药症疗痛热咳血压糖尿心肝肺肾脾胃肠骨肌皮眼耳鼻喉口牙手足头颈胸腹背腰膝寒湿风火燥虚实阴阳气津液经络脉舌苔黄白红紫干润"


def text(chance: random.Random, length: int) -> str:
    return "".join(chance.choices(HANZI, k=length))


def changed(chance: random.Random, original: str, edits: int) -> str:
    words = list(original)
    for _ in range(edits):
        place = chance.randrange(len(words))
        words[place : place + chance.randint(0, 1)] = text(chance, chance.randint(0, 2))
    return "".join(words)


def similarity(one: str, other: str) -> float:
    sets = [{made[start : start + 5] for start in range(max(1, len(made) - 4))} for made in map(normalize, (one, other))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def ask(question: str, answer: str = "多喝水。") -> Dialogue:
    return Dialogue(id="t:1", turns=(Turn("user", question), Turn("assistant", answer)))


@pytest.fixture(scope="module")
def planted() -> tuple[Benchmark, list[tuple[Dialogue, str]]]:
    """A benchmark, and records that leak it (kind) or not ('')."""
    chance = random.Random(11)
    questions = [
        Question(id=f"web:{n}", question=text(chance, chance.randint(6, 150)), references=(text(chance, chance.randint(20, 300)),))
        for n in range(800)
    ]
    records = []
    for question in questions:
        asked, (said,) = question.question, question.references
        records.append((ask("，".join(asked[start : start + 7] for start in range(0, len(asked), 7)) + "？"), "exact"))
        records.append((ask(text(chance, 30), said[:9] + "。" + said[9:]), "exact"))
        records.append((ask(text(chance, 200)), ""))
        if len(asked) >= 20:
            records.append((ask(text(chance, 40) + asked + text(chance, 40)), "contained"))
        if len(said) >= 40:
            records.append((ask(text(chance, 30), text(chance, 60) + said + text(chance, 60)), "contained"))
        for _ in range(2):
            near = changed(chance, asked, chance.randint(0, 1 + len(asked) // 40))
            records.append((ask(near), "near" if similarity(near, asked) >= 0.8 else "?"))
            near = changed(chance, said, chance.randint(0, 1 + len(said) // 40))
            records.append((ask(text(chance, 30), near), "near" if similarity(near, said) >= 0.8 and len(said) >= 45 else "?"))
    return Benchmark(questions, Decontamination()), records


def test_planted_leaks_are_found(planted: tuple[Benchmark, list[tuple[Dialogue, str]]]) -> None:
    benchmark, records = planted
    found = [benchmark.match(record) for record, _ in records]
    for kind, least in (("exact", 1.0), ("contained", 1.0), ("near", 0.99)):
        own = [match for match, (_, planted_kind) in zip(found, records, strict=True) if planted_kind == kind]
        assert len(own) > 600 and sum(match is not None for match in own) >= least * len(own), kind
    assert all(match is None for match, (_, kind) in zip(found, records, strict=True) if not kind)
    assert {match.kind for match in found if match} == {"exact", "contained", "near"}


def test_the_gate_opens_for_all_that_match_and_for_few_others(planted: tuple[Benchmark, list[tuple[Dialogue, str]]]) -> None:
    benchmark, records = planted
    suspects = benchmark.suspects(Batch([record for record, _ in records]))
    matches = np.array([benchmark.match(record) is not None for record, _ in records])
    assert not (matches & ~suspects).any()
    assert (suspects & ~matches).sum() < 0.1 * len(records)  # most are planted near the threshold


@pytest.mark.parametrize("asked", ["高血压患者怎么办", "小儿发热咳嗽流涕怎么办呢请问", "糖尿病人能吃西瓜吗"])
@pytest.mark.parametrize("more", ["呢", "呢啊", "呢啊谢谢"])
def test_short_texts_at_the_threshold_are_seen_by_the_gate(asked: str, more: str) -> None:
    benchmark = Benchmark([Question(id="web:1", question=asked, references=("甲",))], Decontamination())
    record = ask(asked + more)
    assert benchmark.suspects(Batch([record]))[0] == (benchmark.match(record) is not None) == (similarity(asked, asked + more) >= 0.8)


def test_a_short_line_of_a_long_turn_is_seen_by_the_gate() -> None:
    benchmark = Benchmark([Question(id="web:1", question="小儿发热抽搐怎么处理？", references=("甲",))], Decontamination())
    record = ask("小儿发热抽搐，怎么处理?\n" + text(random.Random(2), 120))
    assert str(benchmark.match(record)) == "web:1 exact" and benchmark.suspects(Batch([record])).all()
    assert not benchmark.suspects(Batch([ask(text(random.Random(2), 120))])).any()


def test_the_gate_misses_nothing_on_real_data(shared_data: Path) -> None:
    from medchatzh import ingest
    from medchatzh.ingest import Source, Tally

    def records(name: str, path: str) -> list:
        source = Source(name=name, path=path)
        files = ingest.raw_files(ingest.Config(sources=(source,)), shared_data)
        return list(ingest.read_source(source, files, Tally()))

    questions = [one for one in records("web", "evaluation/webmedqa_layout/medQA.test.txt") if isinstance(one, Question)]
    dialogues = [one for one in records("toyhom", "medical/toyhom/*.csv") if isinstance(one, Dialogue)]
    benchmark = Benchmark(questions, Decontamination())
    suspects = benchmark.suspects(Batch(dialogues))
    unseen = [record for record, suspect in zip(dialogues, suspects, strict=True) if not suspect]
    assert len(questions) == 700 and 500 < suspects.sum() < 0.25 * len(dialogues)
    assert not any(benchmark.match(record) for record in unseen)
