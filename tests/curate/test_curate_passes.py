"""The passes of curation: the same bytes for any number of workers, a resumed run, and gates that change nothing but the speed."""

import os
import random
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import curate, ingest
from medchatzh.curate import Config, curate_records, passes
from medchatzh.curate.batch import Batch
from medchatzh.curate.benchmark import Benchmark
from medchatzh.curate.clean import Cleaner
from medchatzh.curate.duplicates import Duplicates
from medchatzh.ingest import Source, Tally
from medchatzh.records import Dialogue, Question, Reject, Turn, read, write
from medchatzh.run import SCRATCH, Context

PIECES = [
    "高血压患者应低盐饮食，", "规律服药，定期监测血压。", "小儿发热时注意补充水分，", "体温超过38.5℃可遵医嘱用退热药。",
    "脾胃虚弱者宜健脾益气，", "1、多休息。2、多喝水。3、清淡饮食。", "找13800001234。", "加微信abc12345领取。",
    "我院采用德国进口技术，无效退款。", "谢谢您的提问，", "祝您早日康复！", "作为一个人工智能语言模型，我无法提供诊断。",
    "失眠多梦,心烦口干", "&nbsp;", "１２", "∶", "的的的的", "如果", "\n", "哈哈嘛啦～", "The patient should rest and drink water.",
    "我叫张小明，", "無論這個藥對們為什麼時會", "\ufffd\ufffd", "？", "…", "\u200b", "鐨勬槸", "建议及时就医。",
    "孩子三岁，咳嗽两天怎么办？", "月经推迟怎么办？", "1.甲乙丙。2.丁戊己。4.庚辛壬。", "请问是什么原因？",
]  # fmt: skip


def talks(seed: int, num: int) -> list[Dialogue]:
    chance = random.Random(seed)
    made = []
    for number in range(num):
        turns = tuple(
            Turn(role, "".join(chance.choices(PIECES, k=chance.randint(1, 7))))
            for _ in range(chance.choice((1, 1, 1, 2)))
            for role in ("user", "assistant")
        )
        pool = chance.choice(("medical", "medical", "general"))
        made.append(Dialogue(id=f"s:{number}", source=chance.choice("ab"), origin=f"f:{number}", turns=turns, pool=pool))
    return made


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "ingest"
    folder.mkdir()
    records = talks(1, 890)
    records += [msgspec.structs.replace(record, id=f"s:{890 + number}") for number, record in enumerate(records[:200:20])]
    write(folder / "dialogues.jsonl", records)
    asked = [Question(id=f"web:{number}", question=records[number].question, references=("甲",)) for number in range(0, 900, 90)]
    write(folder / "questions.jsonl", asked)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.jsonl"))}


def curated(raw: Path, out: Path, config: Config | None = None, **how: object) -> tuple[dict[str, str], bytes]:
    out.mkdir(exist_ok=True)
    result = curate.run(config or Config(), {"ingest": raw}, out, Context(**how))
    return hashes(out), msgspec.json.encode(result)


@pytest.mark.parametrize("how", [{"workers": 2}, {"workers": 8}, {"workers": 2, "executor": "ray"}], ids=str)
def test_the_bytes_do_not_depend_on_who_works(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, object]) -> None:
    if how.get("executor") == "ray":
        pytest.importorskip("ray", reason="Ray is an extra: pip install 'medchatzh[ray]'")
    monkeypatch.setattr(passes, "SHARD_BYTES", 30_000)
    alone = curated(raw, tmp_path / "alone", workers=1)
    assert alone == curated(raw, tmp_path / "many", **how)
    assert b'"num_shards":' in alone[1] and b'"num_shards":1}' not in alone[1]


def test_shards_and_memory_give_the_same_records(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "SHARD_BYTES", 30_000)
    config = Config(rules=tuple(rule for rule in Config().rules if rule != "boilerplate"), duplicates=Duplicates(same_question="longest"))
    _, result = curated(raw, tmp_path / "out", config)
    outcomes = list(curate_records(read(raw / "dialogues.jsonl", Dialogue), read(raw / "questions.jsonl", Question), config))
    assert len(outcomes) == 900
    for pool in ("general", "medical"):
        assert list(read(tmp_path / "out" / f"{pool}.jsonl", Dialogue)) == [
            one for one in outcomes if isinstance(one, Dialogue) and one.pool == pool
        ]
    rejects = {one.id: one for one in read(tmp_path / "out" / "rejects.jsonl", Reject)}
    wanted = {one.id: one for one in outcomes if isinstance(one, Reject)}
    assert {key: (one.reason, one.detail, one.span) for key, one in rejects.items()} == {
        key: (one.reason, one.detail, one.span) for key, one in wanted.items()
    }
    reasons = {one.reason for one in rejects.values()}
    assert {"exact_duplicate", "same_question", "in_benchmark", "personal_data", "refusal", "short_answer"} <= reasons
    told = msgspec.json.decode(result)
    assert told["num_in"] == 900 == told["num_out"] + sum(told["dropped"].values())
    for group in ("by_pool", "by_source"):
        assert sum(part["num_in"] for part in told["facts"][group].values()) == 900
        assert sum(part["num_out"] for part in told["facts"][group].values()) == told["num_out"]
        assert all(part["num_in"] == part["num_out"] + sum(part["dropped"].values()) for part in told["facts"][group].values())
    for lengths in told["facts"]["lengths"].values():
        assert len(lengths["bins"]) == len(lengths["before"]) == len(lengths["after"])
    assert sum(sum(lengths["after"]) for lengths in told["facts"]["lengths"].values()) == told["num_out"]


@pytest.mark.parametrize("label", ["survey", "clean", "near", "drops", "write"])
def test_a_killed_run_goes_on_from_its_shards(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str) -> None:
    monkeypatch.setattr(passes, "SHARD_BYTES", 30_000)
    whole = curated(raw, tmp_path / "whole")
    out = tmp_path / "out"
    calls = 0

    def dies(work):  # type: ignore[no-untyped-def]
        def call(*arguments, **named):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            if calls == 3:
                raise KeyboardInterrupt
            return work(*arguments, **named)

        return call

    name = {"survey": "_survey", "clean": "_clean", "near": "_shingle", "drops": "write_atomically", "write": "_write"}[label]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(passes, name, dies(getattr(passes, name)))
        curated(raw, out)
    left = (
        {path.name for path in (out / SCRATCH / label).glob("0*") if label == "drops" or (path / "facts.json").exists()}
        if label != "near"
        else set()
    )
    assert label == "near" or len(left) >= 1
    assert curated(raw, out) == whole


def test_an_empty_input_gives_empty_files(tmp_path: Path) -> None:
    raw = tmp_path / "ingest"
    raw.mkdir()
    (raw / "dialogues.jsonl").touch()
    files, _ = curated(raw, tmp_path / "out")
    assert set(files) == {"general.jsonl", "medical.jsonl", "rejects.jsonl", "near_pairs.jsonl"} and len(set(files.values())) == 1


def test_a_line_that_is_no_record_is_named(raw: Path, tmp_path: Path) -> None:
    with (raw / "dialogues.jsonl").open("a") as file:
        file.write('{"id": "x", "turns": [{"role": "doctor", "content": ""}]}\n')
    with pytest.raises(ValueError, match=r"dialogues.jsonl: byte \d+: not a Dialogue.*turns\[0\].role"):
        curated(raw, tmp_path / "out")


def both(records: list[Dialogue], config: Config, questions: list[Question] = []) -> None:  # noqa: B006
    benchmark = Benchmark(questions, config.decontamination)
    table = frozenset(["感谢您的提问", "祝您早日康复"])
    gated = Cleaner(config, benchmark, table)(Batch(records)).outcomes()
    exact = Cleaner(config, benchmark, table, gated=False)(Batch(records)).outcomes()
    for one, other in zip(gated, exact, strict=True):
        assert one == other


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), min_size=2, max_size=2), st.sampled_from(["drop", "mask"]))
def test_gates_change_nothing(texts: list[str], personal: str) -> None:
    record = Dialogue(id="t:1", turns=(Turn("user", texts[0]), Turn("assistant", texts[1])))
    known = [Question(id="web:1", question="孩子三岁，咳嗽两天怎么办？", references=("高血压患者应低盐饮食，规律服药，定期监测血压。",))]
    both([record], Config(personal_data=personal, trim_boilerplate=True), known)


@given(st.text(max_size=40), st.text(max_size=80))
def test_gates_change_nothing_on_any_text(question: str, answer: str) -> None:
    both([Dialogue(id="t:1", turns=(Turn("user", question), Turn("assistant", answer)))], Config())


SOURCES = {
    "toyhom": ("medical/toyhom/*.csv", "medical"),
    "bentsao": ("medical/bentsao/llama_data.json", "medical"),
    "medicalgpt": ("medical/medicalgpt/*.jsonl", "medical"),
    "cmedqa2": ("medical/cmedqa2/*.txt", "medical"),
    "cmdd": ("medical/cmdd.zip", "medical"),
    "belle": ("general/belle_eval_set.json", "general"),
    "sharegpt": ("general/sharegpt_zh_1K_format.jsonl", "general"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_gates_change_nothing_on_real_data(shared_data: Path, name: str) -> None:
    path, pool = SOURCES[name]
    source = Source(name=name, path=path, pool=pool)
    files = ingest.raw_files(ingest.Config(sources=(source,)), shared_data)
    records = [one for one in ingest.read_source(source, files, Tally()) if isinstance(one, Dialogue)]
    assert len(records) > 400
    if not os.environ.get("MEDCHATZH_ALL"):  # all of it takes minutes
        records = records[:: max(1, len(records) // 1000)]
    both(records, Config())
