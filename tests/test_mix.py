"""Mix: no question on both sides, what is drawn, the same bytes however it runs, exports that say the same, a card that counts right."""

import json
import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from medchatzh import mix
from medchatzh.mix import exports
from medchatzh.mix.proportions import POOLS
from medchatzh.records import Dialogue, Reject, Turn, normalize, read, write
from medchatzh.run import Context, Manifest, sha256, write_atomically

FEW = {"exports": ()}


def dialogue(number, pool="medical", source="clinic", question=None, exchanges=1, system=""):
    turns = [Turn("system", system)] if system else []
    for exchange in range(exchanges):
        asked = question if question and not exchange else f"第{number}号病人的第{exchange}个问题？"
        turns += [Turn("user", asked), Turn("assistant", f"答案{number}\n第{exchange}条“引号”\\与\u2028行分隔")]
    return Dialogue(id=f"{source}:{number}", source=source, origin=f"a.json:{number}", pool=pool, turns=tuple(turns), edits=("full_width",))


def corpus(num_medical=40, num_general=25):
    medical = [
        dialogue(n, source="clinic" if n % 3 else "tcm", exchanges=1 + n % 3, system="你是医生。" if n % 5 == 0 else "")
        for n in range(num_medical)
    ]
    return medical, [dialogue(n, "general", "belle") for n in range(num_general)]


def mixed(folder, medical, general, seed=1, workers=1, out=None, **config):
    """Run the stage on these records; returns its folder and its result."""
    inputs = {label: folder / label for label in ("ingest", "curate", "score")}
    for path in inputs.values():
        path.mkdir(exist_ok=True, parents=True)
    write(inputs["curate"] / "general.jsonl", general)
    write(inputs["score"] / "medical.jsonl", medical)
    out = out or folder / "out"
    out.mkdir(exist_ok=True)
    return out, mix.run(mix.Config(**config), inputs, out, Context(seed=seed, workers=workers))


def dialogues(out, split):
    return list(read(out / f"{split}.jsonl", Dialogue))


def contents(out):
    return {path.relative_to(out).as_posix(): sha256(path) for path in out.rglob("*") if path.is_file() and "scratch" not in path.parts}


QUESTIONS = st.sampled_from(["头痛怎么办", "头痛怎么办？", "头痛 怎么办!", "ＢＭＩ多少", "bmi多少", "失眠", "？？", "…"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    questions=st.lists(st.tuples(QUESTIONS, st.sampled_from(POOLS)), min_size=1, max_size=30),
    share=st.floats(0, 0.7),
    weight=st.floats(0, 3),
    bound=st.integers(0, 12),
    seed=st.integers(0, 9),
)
def test_no_question_stands_on_both_sides_and_counts_balance(tmp_path_factory, questions, share, weight, bound, seed):
    records = [dialogue(n, pool, f"s{n % 2}", question) for n, (question, pool) in enumerate(questions)]
    pools = [[record for record in records if record.pool == pool] for pool in ("medical", "general")]
    wanted = {"validation_share": share, "weights": {"s1": weight}, "max_general": bound, "max_by_source": {"s0": 9}}
    try:
        out, result = mixed(tmp_path_factory.mktemp("mix"), *pools, seed, **wanted, **FEW)
    except ValueError as error:
        assert "nothing is left to train on" in str(error)
        return
    train, validation = dialogues(out, "train"), dialogues(out, "validation")
    assert not {normalize(each.question) for each in train} & {normalize(each.question) for each in validation}
    taken, rejects = {each.id for each in (*train, *validation)}, list(read(out / "rejects.jsonl", Reject))
    assert taken.isdisjoint(each.id for each in rejects) and len(taken) + len(rejects) == result.num_in == len(records)
    assert result.num_out == len(taken) and result.dropped == Counter(each.reason for each in rejects)
    assert len(validation) == len({each.id for each in validation})


def test_weights_take_half_or_twice(tmp_path):
    medical, general = corpus(60, 20)
    out, result = mixed(tmp_path, medical, general, weights={"clinic": 0.5, "tcm": 2.5, "belle": 0}, validation_share=0, **FEW)
    times = Counter(each.id for each in dialogues(out, "train"))
    by_source = {
        source: Counter(times[each.id] for each in (*medical, *general) if each.source == source) for source in ("clinic", "tcm", "belle")
    }
    assert by_source == {"clinic": {1: 20, 0: 20}, "tcm": {2: 10, 3: 10}, "belle": {0: 20}}
    assert result.dropped == {"weight": 40}
    assert result.facts["by_source"]["tcm"] == {"num_in": 20, "train": 50, "validation": 0, "repeats": 30}


def test_a_bound_leaves_out_repeats_before_records(tmp_path):
    medical, general = corpus(30, 0)
    out, result = mixed(tmp_path, medical, general, weights={"clinic": 3, "tcm": 3}, max_medical=45, validation_share=0, **FEW)
    times = Counter(each.id for each in dialogues(out, "train"))
    assert len(times) == 30 and times.total() == 45 and set(times.values()) == {1, 2} and not result.dropped


def test_bounds_count_the_pools_apart(tmp_path):
    out, result = mixed(tmp_path, *corpus(60, 50), max_medical=20, max_general=30, max_by_source={"tcm": 4}, **FEW)
    pools = Counter(each.pool for split in ("train", "validation") for each in dialogues(out, split))
    assert pools == {"medical": 20, "general": 30}
    assert result.dropped["max_by_source"] == 16 and result.dropped["max_general"] == 20 and result.dropped["max_medical"] == 24


@pytest.mark.parametrize(("share", "expected"), [(0.5, {"medical": 20, "general": 20}), (0.8, {"medical": 10, "general": 40})])
def test_the_share_of_general_records_leaves_out_of_the_pool_that_is_too_large(share, expected, tmp_path):
    out, _ = mixed(tmp_path, *corpus(20, 40), general_share=share, validation_share=0, **FEW)
    assert Counter(each.pool for each in dialogues(out, "train")) == expected


def test_a_share_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="mix.general_share = 0.5 needs records of both pools"):
        mixed(tmp_path, *corpus(5, 0), general_share=0.5, **FEW)


def test_what_is_drawn_and_its_order_do_not_depend_on_the_order_of_the_input(tmp_path):
    medical, general = corpus()
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, _ = mixed(tmp_path / "a", medical, general, weights={"clinic": 0.5}, **FEW)
    other, _ = mixed(tmp_path / "b", medical[::-1], general[::-1], weights={"clinic": 0.5}, **FEW)
    assert dialogues(one, "train") == dialogues(other, "train") != medical


def test_another_seed_draws_others_but_splits_alike(tmp_path):
    sides = []
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        out, _ = mixed(tmp_path / str(seed), *corpus(), seed=seed, validation_share=0.3, **FEW)
        sides.append((dialogues(out, "train"), dialogues(out, "validation")))
    assert sides[0][0] != sides[1][0]
    assert {each.id for each in sides[0][1]} == {each.id for each in sides[1][1]} != set()


def test_a_shuffled_file_has_its_sources_everywhere(tmp_path):
    """What is drawn by the smallest hashes must not stand in front because of it."""
    medical, general = [dialogue(n) for n in range(400)], [dialogue(n, "general", "belle") for n in range(200)]
    out, _ = mixed(tmp_path, medical, general, weights={"clinic": 0.5}, validation_share=0, **FEW)
    front = Counter(each.source for each in dialogues(out, "train")[:200])
    assert 70 < front["clinic"] < 130  # 100 of 200 expected; three standard deviations are 17


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(mix, "SHARD_BYTES", 2000)
    monkeypatch.setattr(mix, "SHARD_RECORDS", 7)


def test_same_bytes_with_one_worker_or_two(small_shards, tmp_path):
    found = []
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        out, _ = mixed(tmp_path / str(workers), *corpus(), workers=workers, weights={"tcm": 2})
        found.append(contents(out))
    assert found[0] == found[1] and len([name for name in found[0] if name.startswith("data/train-")]) > 5


@pytest.mark.parametrize("calls", [1, 4, 9])
def test_broken_off_anywhere_it_ends_in_the_same_bytes(calls, small_shards, monkeypatch, tmp_path):
    (tmp_path / "whole").mkdir(), (tmp_path / "broken").mkdir()
    whole, _ = mixed(tmp_path / "whole", *corpus())
    original, left = exports.write_parquet, iter(range(calls))

    def broken(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr("medchatzh.mix.writing.write_parquet", broken)
    with pytest.raises(KeyboardInterrupt):
        mixed(tmp_path / "broken", *corpus())
    monkeypatch.setattr("medchatzh.mix.writing.write_parquet", original)
    monkeypatch.setattr(mix.card, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # and once more, when the Parquet files have been put into their place
        mixed(tmp_path / "broken", *corpus())
    monkeypatch.undo()
    monkeypatch.setattr(mix, "SHARD_BYTES", 2000)
    monkeypatch.setattr(mix, "SHARD_RECORDS", 7)
    resumed, _ = mixed(tmp_path / "broken", *corpus())
    assert contents(resumed) == contents(whole)


def llama_factory(folder, name):
    """The turns that LLaMA-Factory would train on, by the rules of its data/README.md. Anything it would skip or misread fails here."""
    info = json.loads((folder / "dataset_info.json").read_text("ascii"))[name]  # opened with the platform's encoding there
    assert set(info) <= {"file_name", "formatting", "columns", "tags"}
    rows = json.loads((folder / info["file_name"]).read_text("utf-8"))
    columns, result = info["columns"], []
    for row in rows:
        assert set(row) == set(columns.values())
        system = row[columns["system"]]
        turns = [("system", system)] if system else []
        if info["formatting"] == "alpaca":
            for asked, answered in row[columns["history"]]:
                turns += [("user", asked), ("assistant", answered)]
            prompt = "\n".join(part for part in (row[columns["prompt"]], row[columns["query"]]) if part)
            turns += [("user", prompt), ("assistant", row[columns["response"]])]
        else:
            tags = info["tags"]
            expected = [tags["user_tag"], tags["assistant_tag"]]
            messages = row[columns["messages"]]
            assert len(messages) % 2 == 0
            for position, message in enumerate(messages):
                assert message[tags["role_tag"]] == expected[position % 2]
                turns.append((("user", "assistant")[position % 2], message[tags["content_tag"]]))
        result.append(tuple(Turn(*turn) for turn in turns))
    return result


def test_every_export_says_the_same_dialogues_in_the_same_order(small_shards, tmp_path):
    out, _ = mixed(tmp_path, *corpus(), validation_share=0.2)
    for split in ("train", "validation"):
        expected = dialogues(out, split)
        assert expected and [each.turns for each in expected] == llama_factory(out, f"med_mix_alpaca_{split}")
        assert [each.turns for each in expected] == llama_factory(out, f"med_mix_sharegpt_{split}")
        rows = [row for path in sorted(out.glob(f"data/{split}-*.parquet")) for row in parquet.read_table(path).to_pylist()]
        turns = [tuple(Turn(**turn) for turn in row.pop("turns")) for row in rows]
        assert expected == [Dialogue(**row | {"turns": each, "edits": tuple(row["edits"])}) for row, each in zip(rows, turns, strict=True)]


def test_a_side_without_records_is_a_valid_empty_file(tmp_path):
    out, _ = mixed(tmp_path, *corpus(3, 2), validation_share=0)
    assert llama_factory(out, "med_mix_alpaca_validation") == [] == dialogues(out, "validation")
    assert parquet.read_table(out / "data" / "validation-00000-of-00001.parquet").num_rows == 0


def test_exports_can_be_left_out(tmp_path):
    out, _ = mixed(tmp_path, *corpus(), exports=("sharegpt",))
    made = {path.name for path in out.iterdir()} - {"scratch"}
    forms = {"dataset_info.json", "sharegpt_train.json", "sharegpt_validation.json"}
    assert made == forms | {"README.md", "rejects.jsonl", "train.jsonl", "validation.jsonl"}
    assert "path: train.jsonl" in (out / "README.md").read_text("utf-8")


def manifest(folder, stage, config, num_in, num_out, dropped, facts):
    folder.mkdir(parents=True)
    made = Manifest(
        stage=stage, fingerprint=f"{stage}-print", config=config, seed=1, inputs={}, files={}, versions={}, num_in=num_in, num_out=num_out,
        dropped=dropped, facts=facts, outputs={}, seconds=1.0,
    )  # fmt: skip
    write_atomically(folder / "manifest.json", json.dumps({name: getattr(made, name) for name in made.__struct_fields__}).encode())


def tables(card):
    """The card's tables: first cell of the heading → rows of cells."""
    found = {}
    for block in re.split(r"\n\n", card):
        lines = [line.strip("|").split(" | ") for line in block.splitlines() if line.startswith("|")]
        if lines:
            rows = [[cell.strip().replace(",", "") for cell in line] for line in lines]
            found.setdefault(rows[0][0].strip(), []).append(rows[2:])
    return found


def test_the_cards_numbers_are_those_of_the_files(tmp_path):
    yaml = pytest.importorskip("yaml")
    sources = [{"name": "clinic", "pool": "medical", "licence": "MIT"}, {"name": "tcm", "pool": "medical", "licence": "MIT"}]
    sources.append({"name": "belle", "pool": "general", "licence": "GPL-3.0 | research only"})
    manifest(tmp_path / "ingest", "ingest", {"sources": sources}, 100, 90, {"broken_row": 10}, {})
    curated = {"by_source": {"clinic": {"num_in": 1200}, "tcm": {"num_in": 30}, "belle": {"num_in": 33}}}
    manifest(
        tmp_path / "curate", "curate", {"rules": ["loop"], "medical": {"min_answer_chars": 12}}, 90, 70, {"loop": 15, "refusal": 5}, curated
    )
    facts = {"reward_checkpoint": "abc123", "threshold": 0.25, "kind": "quantile"}
    manifest(tmp_path / "score", "score", {"threshold": 0.2}, 50, 40, {"low_reward": 10}, facts)
    out, result = mixed(tmp_path, *corpus(), validation_share=0.2, weights={"tcm": 2}, max_general=20)
    card = (out / "README.md").read_text("utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], front["language"], front["size_categories"]) == ("other", ["zh"], ["n<1K"])
    for data in front["configs"][0]["data_files"]:
        files = sorted(out.glob(data["path"]))
        assert files and sum(parquet.read_table(path).num_rows for path in files) == len(dialogues(out, data["split"]))
    found = tables(card)
    train, validation = dialogues(out, "train"), dialogues(out, "validation")
    for rows, key, offset in ((found["池 / pool"][0], "pool", 1), (found["来源 / source"][0], "source", 4)):
        for row in rows:
            trained = Counter(each.id for each in train if getattr(each, key) == row[0])
            validated = sum(getattr(each, key) == row[0] for each in validation)
            assert list(map(int, row[offset + 1 :])) == [trained.total(), trained.total() - len(trained), validated], row
    assert {row[0]: row[2:4] for row in found["来源 / source"][0]} == {
        "belle": ["GPL-3.0 \\| research only", "33"], "clinic": ["MIT", "1200"], "tcm": ["MIT", "30"],
    }  # fmt: skip
    files = {row[0]: (int(row[1]), row[2].strip("`")) for row in found["文件 / file"][1]}
    assert files == {name: ((out / name).stat().st_size, digest) for name, digest in contents(out).items() if name != "README.md"}
    reasons = {(stage, reason): int(count) for stage, reason, count in found["阶段 / stage"][1]}
    assert reasons[("curate", "loop")] == 15 and reasons[("mix", "max_general")] == result.dropped["max_general"] == 5
    assert {row[0]: list(map(int, row[2:])) for row in found["阶段 / stage"][0]}["mix"] == [65, 60, 5]
    assert "`abc123`" in card and '"min_answer_chars": 12' in card and '"max_general": 20' in card


@pytest.mark.parametrize(("licence", "expected"), [("MIT", "mit"), ("my own", "other"), ("", "other")])
def test_the_card_claims_a_licence_only_where_all_sources_share_one_that_the_hub_knows(licence, expected, tmp_path):
    sources = [{"name": name, "licence": licence} for name in ("clinic", "tcm", "belle")]
    manifest(tmp_path / "ingest", "ingest", {"sources": sources}, 1, 1, {}, {})
    out, _ = mixed(tmp_path, *corpus())
    assert f"\nlicense: {expected}\n" in (out / "README.md").read_text("utf-8")


def test_a_record_that_no_trainer_could_read_is_named(tmp_path):
    broken = Dialogue(id="mine:3", turns=(Turn("assistant", "答"), Turn("user", "问")))
    with pytest.raises(ValueError, match=r"medical.jsonl: byte 0: not a dialogue to train on: mine:3: turns\[0\] is 'assistant'"):
        mixed(tmp_path, [broken], [])


def test_nothing_left_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"mix: nothing is left to train on; look at the rejects of curate and score"):
        mixed(tmp_path, [], [])


@pytest.mark.parametrize("config", [{"weights": {"a": -1}}, {"max_general": -1}, {"validation_share": 1}, {"general_share": -0.1}])
def test_nonsense_settings_are_refused(config):
    with pytest.raises(ValueError, match=r"must not be negative|are shares"):
        mix.Config(**config)
