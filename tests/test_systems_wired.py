"""Systems in a recipe and on the command line."""

from pathlib import Path

import msgspec
import pytest

from medchatzh.cli import main
from medchatzh.pipeline import Plan
from medchatzh.records import Prediction, Question, Turn, read, write
from medchatzh.run import Context, read_manifest
from tests.models import published
from tests.models.serving import Server, reply

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"
QUESTIONS = [
    Question(id=f"q:{number}", source="q", question=f"第{number}个问题？", references=("多休息。", "多喝水。")) for number in range(3)
]


@pytest.fixture
def recipe(tmp_path):
    """The quick start with some systems beside its own."""

    def recipe(*tables):
        path = tmp_path / "recipe.toml"
        path.write_text(QUICKSTART.read_text("utf-8") + "".join(f"\n[[systems]]\n{table}\n" for table in tables), "utf-8")
        return path

    return recipe


def test_systems_of_a_recipe_become_steps_that_know_their_files(recipe, tmp_path):
    llama, lora = published.llama(tmp_path / "llama"), published.lora(tmp_path / "lora")
    tables = (
        f'name = "BenTsao"\nbaseline = "bentsao"\nmodel = "{llama}"\nadapter = "{lora}"',
        'name = "GPT"\nbaseline = "gpt-3.5-turbo"\nendpoint = { base_url = "http://localhost:1/v1", model = "gpt-3.5-turbo-0125" }',
    )
    plan = Plan(recipe(*tables), [], tmp_path / "runs")
    bentsao, gpt = plan.steps["generate@BenTsao"], plan.steps["generate@GPT"]
    assert bentsao.config.kind == "checkpoint" and {"model/config.json", "adapter/adapter_model.bin"} <= set(bentsao.files)
    assert gpt.config.kind == "endpoint" and set(gpt.inputs) == {"ingest"}
    for later in ("score@judge", "evaluate", "report"):
        assert {"generate@BenTsao", "generate@GPT"} <= set(plan.steps[later].inputs)
    (lora / "adapter_model.bin").write_bytes(b"another")
    again = Plan(recipe(*tables), [], tmp_path / "runs").steps
    assert again["generate@BenTsao"].fingerprint != bentsao.fingerprint and again["generate@GPT"].fingerprint == gpt.fingerprint


def test_a_system_of_a_recipe_answers_the_benchmark(recipe, tmp_path):
    with Server() as server:
        plan = Plan(recipe(f'name = "GPT"\nendpoint = {{ base_url = "{server.base_url}", model = "m" }}'), [], tmp_path / "runs")
        folder = plan.run("generate@GPT", Context(seed=plan.seed, threads=1, cache=tmp_path / "cache"))
    predictions = list(read(folder / "predictions.jsonl", Prediction))
    assert len(predictions) == 66 and {one.system for one in predictions} == {"GPT"}
    assert all(one.answer == reply(one.question) for one in predictions)
    assert not (folder / "scratch").exists() and len(list((tmp_path / "cache").glob("answers-m-*.jsonl"))) == 1


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('name = "canned"\nmodel = "."', "systems: 'canned' is the name of another system; choose another"),
        ('name = "x"\nmodel = "/nowhere"', "systems 'x': model: /nowhere is not a folder"),
        ('name = "x"\nbaseline = "bentso"\nmodel = "."', "did you mean 'bentsao'?"),
        ('name = "x"\nmodell = "."', "unknown key systems[0].modell; did you mean systems[0].model?"),
    ],
)
def test_a_wrong_system_fails_before_any_work(recipe, tmp_path, table, told):
    with pytest.raises(ValueError) as caught:
        Plan(recipe(table), [], tmp_path / "runs")
    assert told in str(caught.value)


@pytest.fixture
def generate(tmp_path, monkeypatch):
    """`medchatzh generate` on three questions."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "questions.jsonl", QUESTIONS)
    return lambda *arguments: main(["generate", "--questions", "questions.jsonl", "--threads", "1", *arguments])


def answers(out):
    return [one.answer for one in read(Path(out) / "predictions.jsonl", Prediction)]


def test_a_server_answers_a_files_questions(generate, monkeypatch, capsys):
    monkeypatch.setenv("SOME_KEY", "sk-secret-0123")
    with Server(key="sk-secret-0123") as server:
        at = ("--endpoint", server.base_url, "--endpoint-model", "m", "--set", "endpoint.api_key_env=SOME_KEY")
        assert generate("--system", "gpt-3.5-turbo", *at, "--out", "gpt") == 0
        assert generate("--system", "qwen", *at, "--out", "qwen", "--set", "endpoint.extra={temperature=0}") == 0
        assert "qwen is no baseline, and asked in its own way" in capsys.readouterr().err
    assert answers("gpt") == answers("qwen") == [reply(question.question) for question in QUESTIONS]
    assert len(server.asked) == 6 and "sk-secret" not in Path("gpt/manifest.json").read_text("utf-8")
    manifest = read_manifest(Path("gpt"))
    assert manifest.facts["asked_as"] == "gpt-3.5-turbo (official)" and manifest.inputs["ingest"].startswith("questions@")
    assert generate("--system", "gpt-3.5-turbo", *at, "--out", "gpt") == 1 and "exists already" in capsys.readouterr().err


def test_a_baselines_checkpoint_answers_a_files_questions(generate, tmp_path):
    llama, lora = published.llama(tmp_path / "llama"), published.lora(tmp_path / "lora")
    assert generate("--system", "bentsao", "--model", str(llama), "--adapter", str(lora), "--out", "official") == 0
    assert generate("--system", "bentsao", "--variant", "paper", "--model", str(llama), "--out", "paper") == 0
    assert read_manifest(Path("official")).facts["asked_as"] == "bentsao (official)"
    assert len(answers("paper")) == 3 and answers("paper") != answers("official")


def test_what_was_answered_without_a_recipe_can_be_compared(generate, tmp_path):
    benchmark = QUICKSTART.parents[1] / "src/medchatzh/samples/benchmark/medQA.test.txt"
    with Server() as server:
        at = ("--endpoint", server.base_url, "--endpoint-model", "m", "--questions", str(benchmark))
        assert generate("--system", "any", *at, "--set", "generate.max_questions=20", "--out", "any") == 0
    sampled = ("--set", "generate.max_questions=20", "--set", "evaluate.num_resamples=100")
    assert main(["compare", str(benchmark), "any=any/predictions.jsonl", "--out", "scores", *sampled]) == 0
    counted = {found.stage: found for found in (read_manifest(path.parent) for path in Path("scores").glob("generate-*/manifest.json"))}
    assert counted["generate@any"].num_out == 20 and counted["generate@any"].facts["num_unanswered"] == 0


def test_a_file_without_questions_is_told_by_its_own_name(generate, capsys):
    Path("questions.jsonl").write_text("", "utf-8")
    arguments = ("--system", "any", "--endpoint", "http://localhost:1", "--endpoint-model", "m", "--out", "out")
    assert generate(*arguments) == 1
    told = capsys.readouterr().err
    assert "questions.jsonl: no question in it that can be read (it holds no rows); correct it" in told and "ingest.sources" not in told


def test_the_folder_above_a_checkpoint_is_told(generate, checkpoint, capsys):
    (Path("sft-0") / "checkpoint").parent.mkdir()
    (Path("sft-0") / "checkpoint").symlink_to(checkpoint)
    assert generate("--system", "mine", "--model", "sft-0", "--out", "out") == 1
    assert "give sft-0/checkpoint, the checkpoint in that folder" in capsys.readouterr().err


def test_a_question_with_a_history_reaches_the_server_whole(generate):
    talk = msgspec.structs.replace(QUESTIONS[0], history=(Turn("user", "头痛"), Turn("assistant", "多久了？")))
    write(Path("questions.jsonl"), [talk])
    with Server() as server:
        assert generate("--system", "any", "--endpoint", server.base_url, "--endpoint-model", "m", "--out", "out") == 0
    assert [turn["content"] for turn in server.asked[0][1]["messages"]] == ["头痛", "多久了？", "第0个问题？"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--system", "bentsao"], "give a RECIPE, or without one --questions PATH, --system NAME and --out DIR"),
        (["--system", "bentsao", "--out", "o"], "give either model, a checkpoint folder, or endpoint.base_url and endpoint.model"),
        (["--system", "x", "--variant", "paper", "--model", ".", "--out", "o"], "unknown baseline 'x'"),
        (["--system", "x", "--model", "/nowhere", "--out", "o"], "model: /nowhere is not a folder"),
        (["--system", "x", "--model", ".", "--out", "o", "--set", "sft.rows=1"], "only generate.* and endpoint.* can be set"),
        (["r.toml", "--system", "x", "--model", ".", "--out", "o"], "give a RECIPE, or without one"),
    ],
)
def test_a_wrong_command_is_told(generate, capsys, arguments, told):
    assert generate(*arguments) == 1 and told in capsys.readouterr().err
