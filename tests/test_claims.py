"""The ledger of claims: what it quotes stands where it says, and every verdict depends on what it rests on."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given as sampled
from hypothesis import strategies as st

from medchatzh import evaluate
from medchatzh.benchmarks import SizeClass, Table2, table2
from medchatzh.claims import claims, facts, floors, given, ledger, world
from medchatzh.claims.arithmetic import gleu_bound
from medchatzh.claims.measured import gleu_ratio, share_above
from medchatzh.claims.world import CANNOT, CHECKS, CONTRADICTED, REPRODUCED, Benchmark, Floors, Run, World
from medchatzh.metrics import PROTOCOLS, Bleu, Gleu
from medchatzh.metrics.published import METRICS
from medchatzh.records import Prediction, Question, write

ROOT = Path(__file__).parents[1]
SAMPLE = Path("src/medchatzh/samples/benchmark/medQA.test.txt")
CLAIMS = {claim.id: claim for part in ledger.load().values() for claim in part}


def means(bleu_1, bleu_2, bleu_3, bleu_4, gleu, rouge=20.0):
    return dict(zip(METRICS, (bleu_1, bleu_2, bleu_3, bleu_4, gleu, rouge, rouge / 3, rouge / 2), strict=True))


# Floors of a canned sentence and of other questions' answers, as 700 real questions in webMedQA's layout have them.
STRICT = Floors(canned=means(20.2, 9.2, 4.1, 1.6, 7.3), other=means(25.0, 11.0, 4.8, 1.9, 8.3), num_references=1)
FIVE = Floors(canned=means(57.2, 34.1, 19.7, 10.5, 10.5, 40), other=means(58.5, 33.3, 19.0, 10.4, 12.0, 40), num_references=5)


def sizes(num_loaded=63_284, num_repeated=29, rows=()):
    return Table2(
        rows=rows,
        splits={},
        num_loaded=num_loaded,
        num_repeated=num_repeated,
        num_scored=num_loaded - num_repeated,
        num_own_answers=num_loaded,
    )


def row_of(size: SizeClass, name: str, agrees: bool = True):
    from medchatzh.benchmarks import CategoryRow

    return CategoryRow(category=name, english=name, num_questions=size.least, by_split={}, printed=size.printed, agrees=agrees)


def all_rows():
    return tuple(row_of(size, name) for size in World(facts=facts.load()).table2 for name in size.categories)


GIVEN = World(
    facts=facts.load(),
    benchmark=Benchmark(
        name="made",
        sizes=sizes(rows=all_rows()),
        num_official=63_284,
        num_candidates=400,
        num_of_others=390,
        num_sampled=100,
        floors={"strict": STRICT, "medchatzh": FIVE},
    ),
    run=Run(name="made", num_answers=10, short={"a": 0.5, "b": 0.9}, num_rewards=100, reward_quantiles=(-2.0, 0.0, 2.0)),
)


def with_value(section: str, name: str, value):
    """GIVEN with another constant."""
    part = getattr(GIVEN.facts, section)
    fact = msgspec.structs.replace(getattr(part, name), value=value)
    changed = msgspec.structs.replace(GIVEN.facts, **{section: msgspec.structs.replace(part, **{name: fact})})
    return msgspec.structs.replace(GIVEN, facts=changed)


def with_row(place: int, **values: float):
    """GIVEN with other numbers in a row of table 1."""
    rows = list(GIVEN.table1)
    rows[place] = msgspec.structs.replace(rows[place], values=rows[place].values | values)
    return msgspec.structs.replace(GIVEN, table1=tuple(rows))


def with_rows(change):
    rows = tuple(msgspec.structs.replace(row, values=change(dict(row.values))) for row in GIVEN.table1)
    return msgspec.structs.replace(GIVEN, table1=rows)


def with_benchmark(**changes):
    return msgspec.structs.replace(GIVEN, benchmark=msgspec.structs.replace(GIVEN.benchmark, **changes))


def with_run(**changes):
    return msgspec.structs.replace(GIVEN, run=msgspec.structs.replace(GIVEN.run, **changes))


def with_steps():
    promises = [msgspec.structs.replace(promise, step="a step") for promise in GIVEN.facts.paper.promises.value]
    return with_value("paper", "promises", promises)


def with_settings():
    return with_value("paper", "settings", [msgspec.structs.replace(one, says="words") for one in GIVEN.facts.paper.settings.value])


def with_stages():
    return with_value("repository", "stages", [msgspec.structs.replace(one, file="a.py") for one in GIVEN.facts.repository.stages.value])


def both(one: World, section: str, name: str, value) -> World:
    part = getattr(one.facts, section)
    fact = msgspec.structs.replace(getattr(part, name), value=value)
    return msgspec.structs.replace(
        one, facts=msgspec.structs.replace(one.facts, **{section: msgspec.structs.replace(part, **{name: fact})})
    )


def same_prompts():
    form = "{q}\n{a}"
    changed = with_value("repository", "prompt_trained", "{q}\n")
    changed = both(changed, "repository", "prompt_dialogue", "{q}\n")
    changed = both(changed, "repository", "prompt_history", form + "</s>")
    return both(changed, "repository", "appends_question", False)


def own_prompts():
    others = GIVEN.facts.others
    changed = with_value("repository", "prompt_bentsao", others.prompt_bentsao.value)
    return both(changed, "repository", "prompt_chatglm_med", others.prompt_chatglm_med.value)


def published_everything():
    changed = with_value("paper", "copied", ["nobody"])
    changed = both(changed, "repository", "metric_functions", ["score"])
    return both(changed, "repository", "num_predictions", 5)


def decay_and_held_out():
    return both(with_value("repository", "weight_decay", 0.1), "repository", "validation_file", "other.json")


def single_orders(values):
    """BLEU-2/BLEU-1 equal to ROUGE-2/ROUGE-1: what orders counted alone look like."""
    return values | {"BLEU-2": values["BLEU-1"] * values["ROUGE-2"] / values["ROUGE-1"]}


CHANGED = {
    "mix-2m": with_value("paper", "general", 9_000_000),
    "raw-7m": with_value("repository", "medical_thousands", 700),
    "general-pool": with_value("paper", "general", 4_000_000),
    "table1-best": with_row(1, **{"GLEU": 99.0}),
    "bleu-falls": with_row(2, **{"BLEU-3": 50.0}),
    "bleu-order": with_rows(single_orders),
    "rouge-bounds": with_row(0, **{"ROUGE-L": 21.0}),
    "one-reference": with_rows(lambda values: values | {"GLEU": values["BLEU-1"]}),
    "23-domains": with_value("paper", "num_domains", 22),
    "table2-bounds": msgspec.structs.replace(GIVEN, table2=(msgspec.structs.replace(GIVEN.table2[0], least=60_000), *GIVEN.table2[1:])),
    "63284": with_value("paper", "huatuo_questions", 63_255),
    "tcm-benchmark": msgspec.structs.replace(
        GIVEN, table2=tuple(msgspec.structs.replace(size, below=40_000) if "TMC" in size.categories else size for size in GIVEN.table2)
    ),
    "removed": with_steps(),
    "huatuo-data": with_value("paper", "huatuo_data_section_2", GIVEN.facts.paper.huatuo_data_section_4.value),
    "huatuo-13b": with_value("others", "huatuo_billion", 13),
    "independent-judge": with_value("paper", "judge_model", "another"),
    "settings": with_settings(),
    "gleu": with_value("paper", "gleu", "Wu et al. 2016"),
    "nltk-covers": with_value("others", "nltk_measures", ["BLEU", "GLEU", "ROUGE"]),
    "nltk-latest": with_value("others", "nltk_next", "2023-05"),
    "several-references": with_value("others", "positives", 3),
    "sft-gpus": with_value("repository", "num_gpus", 8),
    "sft-batch": with_value("repository", "batch_size", 8),
    "sft-rate": with_value("repository", "learning_rate", 1e-5),
    "sft-decay": with_value("repository", "weight_decay", 0.1),
    "overfitting": decay_and_held_out(),
    "sft-context": with_value("repository", "cut_from_context", 0),
    "full-parameter": with_value("repository", "lora", True),
    "zero-2": with_value("repository", "zero_stage", 3),
    "base-context": with_value("repository", "max_positions", 2048),
    "base-size": with_value("repository", "num_layers", 60),
    "base-llama": with_value("repository", "intermediate_size", 4096),
    "books-then-sft": with_value("repository", "initial_weights", "books/checkpoint-100"),
    "code-released": with_stages(),
    "dialogue-prompt": same_prompts(),
    "baseline-prompts": own_prompts(),
    "reproducible": published_everything(),
    "five-references": with_benchmark(floors={"strict": STRICT, "medchatzh": STRICT}),
    "same-references": with_rows(lambda values: values | {"GLEU": values["BLEU-1"] / 2}),
    "candidates": with_benchmark(num_of_others=0),
    "question-count": with_benchmark(sizes=sizes(num_repeated=30)),
    "table2-classes": with_benchmark(sizes=sizes(rows=(row_of(GIVEN.table2[0], "Surgery", False), *all_rows()))),
    "200-tokens": with_run(short={"a": 0.5, "b": 0.52}),
    "reward-0.5": with_run(reward_quantiles=(20.0, 30.0)),
}
"""Claim → what its check would see in another paper, repository, benchmark or run: the verdict turns."""


@pytest.mark.parametrize("claim", sorted(CHANGED))
def test_verdict_turns_with_its_input(claim):
    before, after = CHECKS[claim](GIVEN), CHECKS[claim](CHANGED[claim])
    assert {before.verdict, after.verdict} == {REPRODUCED, CONTRADICTED}
    assert before.numbers.keys() == after.numbers.keys()


def test_held_out_turns(monkeypatch):
    from medchatzh.claims import arithmetic

    assert CHECKS["held-out"](GIVEN).verdict == CONTRADICTED
    monkeypatch.setattr(arithmetic, "PAPER_QUESTIONS", 6_337)
    assert CHECKS["held-out"](GIVEN).verdict == REPRODUCED


def test_every_check_is_tested_and_has_its_claim():
    assert set(CHECKS) == set(CHANGED) | {"held-out"}
    assert set(CHECKS) <= set(CLAIMS)


def test_ledger():
    everything = [claim for part in ledger.load().values() for claim in part]
    assert len(everything) == len(CLAIMS) >= 25, "ids are unique"
    for claim in everything:
        assert claim.found or claim.takes, claim.id
        assert bool(claim.found) == (claim.id in CHECKS), claim.id
    outside = {claim.id for claim in ledger.load()["outside"]}
    measured = {claim.id for claim in ledger.load()["measured"]}
    assert outside == set(CLAIMS) - set(CHECKS)
    assert {claim.id for claim in everything if claim.takes} == outside | measured


def test_without_anything_given_the_rest_says_what_it_would_take():
    checked = ledger.check(World(facts=facts.load()))
    for one in checked:
        is_open = one.part in ("measured", "outside")
        assert (one.verdict == CANNOT) == is_open == bool(one.takes), one.id
        assert bool(one.found) != is_open
    assert all("{" not in text for one in checked for text in (one.asked.en, one.asked.zh))


def test_another_benchmark_cannot_tell_webmedqas_size():
    for claim in ("question-count", "table2-classes"):
        finding = CHECKS[claim](with_benchmark(sizes=sizes(num_loaded=700)))
        assert finding.verdict == CANNOT
    shown = {one.id: one for one in ledger.check(with_benchmark(sizes=sizes(num_loaded=700)))}
    assert shown["question-count"].takes and "700" not in shown["question-count"].takes.en


def test_benchmark_without_candidates_says_nothing_about_them():
    without = with_benchmark(num_candidates=0, num_of_others=0)
    assert CHECKS["candidates"](without).verdict == CANNOT
    assert CHECKS["five-references"](without) is None
    assert CHECKS["same-references"](without) is None


@pytest.mark.parametrize("answers, can_tell", [(["药"], False), (["甲乙丙丁", "子丑寅卯"], False), (["医子饮丑", "饮寅医卯"], True)])
def test_tiny_benchmark_divides_by_nothing(answers, can_tell, tmp_path):
    """No other question at all, no character in common, no order above the first."""
    questions = [Question(id=answer, question="问", references=(answer,), distractors=("天地玄黄",)) for answer in answers]
    write(tmp_path / "questions.jsonl", questions)
    shown = ledger.check(World(facts=facts.load(), benchmark=given.benchmark(tmp_path)))
    assert (next(one for one in shown if one.id == "same-references").verdict != CANNOT) == can_tell


# What is quoted stands there.


@pytest.fixture(scope="session")
def paper(shared_data):
    """The paper's text, white space folded."""
    found = sorted((shared_data.parent / "paper").glob("*.txt"))
    if not found:
        pytest.skip(f"the paper's text not found in {shared_data.parent / 'paper'}")
    return " ".join(found[0].read_text("utf-8").split())


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_quotation_stands_in_the_paper(claim, paper):
    assert " ".join(CLAIMS[claim].quote.split()) in paper


def test_constants_of_the_paper_stand_in_it(paper):
    stated = facts.load().paper
    for name in stated.__struct_fields__:
        fact = getattr(stated, name)
        assert fact.says in paper, name
    body = paper.partition("## References")[0]
    for setting in stated.settings.value:
        assert bool(setting.says) != bool(setting.absent)
        assert setting.says in body
        assert not setting.absent or not re.search(setting.absent, body, re.IGNORECASE), setting.english
    for promise in stated.promises.value:
        assert promise.step in body


@pytest.fixture(scope="session")
def repository():
    """`git show` in a clone of the paper's repository."""
    folder = os.environ.get("MEDCHATZH_PAPER_REPOSITORY")
    if not folder:
        pytest.skip("set MEDCHATZH_PAPER_REPOSITORY to a clone of tyang816/MedChatZH")

    def git(*arguments):
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout

    return git


def test_constants_of_the_repository_stand_in_it(repository):
    stated = facts.load().repository
    for name in stated.__struct_fields__:
        fact = getattr(stated, name)
        path, colon, line = fact.at.partition(":")
        if colon:
            assert fact.says in repository("show", f"94664b9:{path}").splitlines()[int(line) - 1], name
    names = repository("ls-tree", "-r", "--name-only", "94664b9").splitlines()
    assert all(stage.file in names for stage in stated.stages.value if stage.file)
    assert not [name for name in names if name.endswith((".csv", ".jsonl"))], "num_predictions"
    assert "use_lora" not in repository("show", "94664b9:scripts/run_sf.sh")


# Measured on what is given.


def test_numbers_are_those_of_the_evaluation():
    """The floors go the way of every system: the same numbers as the stage's."""
    questions = list(given.read_questions(ROOT / SAMPLE))[:12]
    answers = [floors.answer_to_another(questions, place) for place in range(len(questions))]
    predictions = [
        Prediction(id=question.id, system="other", question=question.question, answer=answer)
        for question, answer in zip(questions, answers, strict=True)
    ]
    for name in ("strict", "medchatzh"):
        expected = evaluate.score(list(zip(predictions, questions, strict=True)), [name], "none").mean(axis=0)
        assert list(floors.means(questions, answers, PROTOCOLS[name]).values()) == pytest.approx(expected, abs=1e-9)


def test_floors_need_no_jieba(monkeypatch):
    questions = list(given.read_questions(ROOT / SAMPLE))[:4]
    assert set(floors.floors(questions)) == set(PROTOCOLS)
    monkeypatch.setitem(sys.modules, "jieba", None)
    assert set(floors.floors(questions)) == {"strict", "medchatzh", "huatuogpt-char"}


def test_answer_to_another_question_is_no_candidate():
    questions = list(given.read_questions(ROOT / SAMPLE))
    for place, question in enumerate(questions):
        answer = floors.answer_to_another(questions, place)
        assert answer and answer not in (*question.references, *question.distractors)
    alone = [Question(id="1", question="问", references=("答",))]
    assert floors.answer_to_another(alone, 0) == ""


@sampled(st.text("头痛发热咳", min_size=1, max_size=40), st.text("头痛发热咳", min_size=1, max_size=40))
def test_one_reference_bounds_gleu(hypothesis, reference):
    """What `one-reference` rests on: no sentence scores less, so no mean does."""
    values = Bleu().score(hypothesis, [reference]) | Gleu().score(hypothesis, [reference])
    assert values["BLEU-1"] == 0 or gleu_bound(values) >= 1 - 1e-9


def test_several_references_break_the_bound():
    references = ["甲子丑寅", "乙子丑寅", "丙子丑寅", "丁子丑寅"]
    values = Bleu().score("甲乙丙丁", references) | Gleu().score("甲乙丙丁", references)
    assert gleu_bound(values) < 1


def test_ratio_of_gleu_tells_one_reference_from_five():
    strict, five = ([gleu_ratio(one.canned), gleu_ratio(one.other)] for one in (STRICT, FIVE))
    assert min(strict) > 1 > 0.6 > max(five)


def test_sample_benchmark_is_measured(monkeypatch):
    monkeypatch.setattr(given, "MAX_QUESTIONS", 20)
    found = given.benchmark(ROOT / SAMPLE)
    assert not found.is_official
    assert found.sizes.num_loaded == 66 and found.num_sampled == 20
    assert found.num_candidates == found.num_of_others == 4 * 66
    for kind in ("canned", "other"):
        assert getattr(found.floors["medchatzh"], kind)["BLEU-1"] > 1.5 * getattr(found.floors["strict"], kind)["BLEU-1"]


def test_questions_come_from_a_file_a_folder_or_a_run(tmp_path):
    questions = list(given.read_questions(ROOT / SAMPLE))
    assert list(given.read_questions((ROOT / SAMPLE).parent)) == questions
    write(tmp_path / "questions.jsonl", questions)
    assert list(given.read_questions(tmp_path)) == list(given.read_questions(tmp_path / "questions.jsonl")) == questions
    assert table2(questions).num_scored == 66


@pytest.mark.parametrize(
    "name, text, said", [("missing", None, "no such file"), ("empty.txt", "nothing here\n", "no question with an answer")]
)
def test_unusable_benchmark(tmp_path, name, text, said):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=said):
        given.benchmark(path)


def test_shares_of_rewards():
    run = Run(name="", num_answers=0, short={}, num_rewards=5, reward_quantiles=(0.0, 1.0, 2.0))
    assert [share_above(run, threshold) for threshold in (-1, 0, 0.5, 2, 3)] == [1, 1, 0.75, 0, 0]


def test_a_recipe_is_no_run(tmp_path):
    (tmp_path / "mine.toml").write_text("", "utf-8")
    with pytest.raises(ValueError, match="mine.toml: is a file; give the folder of a finished run, which for a recipe is runs/mine"):
        claims(run=tmp_path / "mine.toml")


def test_run_is_measured(tmp_path):
    from medchatzh.records import Dialogue, Turn
    from medchatzh.run import Manifest

    def stage(name, facts, inputs, num_in):
        folder = tmp_path / f"{name}-0"
        folder.mkdir()
        manifest = Manifest(
            stage=name,
            fingerprint="0",
            config={},
            seed=0,
            inputs=inputs,
            files={},
            versions={},
            num_in=num_in,
            num_out=num_in,
            dropped={},
            facts=facts,
            outputs={},
            seconds=0,
        )
        (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
        return folder

    def dialogue(number, answer, pool):
        return Dialogue(id=f"a:{number}", turns=(Turn("user", "问"), Turn("assistant", answer)), pool=pool)

    ingest = stage("ingest", {}, {}, 3)
    answers = [("药" * 150, "general"), ("药" * 250, "general"), ("药", "medical")]
    write(ingest / "dialogues.jsonl", [dialogue(number, answer, pool) for number, (answer, pool) in enumerate(answers)])
    stage("curate", {}, {"ingest": "ingest-0"}, 3)
    stage("score", {"quantiles": [0.0, 0.5, 1.0]}, {"curate": "curate-0"}, 40)
    found = given.run(tmp_path)
    assert (found.num_answers, found.num_rewards) == (2, 40)
    assert found.short == {"字符 characters": 0.5, "UTF-8 字节 bytes": 0.0}
    assert share_above(found, 0.5) == 0.5
    shown = claims(run=tmp_path)
    assert "50.0% 字符 characters" in shown and "40 medical records: 50.0% score 0.5 or more" in shown


# What the command prints.


def test_the_page_is_what_the_command_prints(monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "claims.md").read_text("utf-8")
    assert page == "<!-- made by `make docs`; edit the code, not this page -->\n" + claims(SAMPLE)


def test_json_holds_every_claim_and_what_was_measured():
    found = msgspec.json.decode(claims(as_json=True))
    assert [one["id"] for one in found["claims"]] == list(CLAIMS)
    assert found["benchmark"] is None and found["run"] is None
    assert {one["verdict"] for one in found["claims"]} == {world.REPRODUCED, world.CONTRADICTED, world.CANNOT}


def test_torch_stays_out(tmp_path):
    code = "import sys, pathlib; from medchatzh.claims import claims; claims(pathlib.Path(sys.argv[1])); print('torch' in sys.modules)"
    few = tmp_path / "few.txt"
    few.write_text("".join((ROOT / SAMPLE).read_text("utf-8").splitlines(keepends=True)[:20]), "utf-8")
    done = subprocess.run([sys.executable, "-c", code, few], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "False"
