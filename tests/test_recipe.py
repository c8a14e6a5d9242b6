"""Recipes fail before any work, and say where and what was meant."""

from pathlib import Path

import msgspec
import pytest

from medchatzh import recipe
from medchatzh.pipeline import Plan, Recipe

RECIPES = Path(__file__).parents[1] / "recipes"
MINIMAL = {"data": {"root": "medchatzh:samples"}, "ingest": {"sources": [{"name": "a", "path": "*"}]}}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_parses(path):
    assert recipe.convert(recipe.load_toml(path), Recipe, str(path)).ingest.sources


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sft": {"learnin_rate": 1}}, r"r.toml: unknown key sft.learnin_rate; did you mean sft.learning_rate\?"),
        ({"sftt": {}}, r"unknown key sftt; did you mean sft\?"),
        (
            {"ingest": {"sources": [{"name": "a", "pth": "*"}]}},
            r"unknown key ingest.sources\[0\].pth; did you mean .*\.path",
        ),
        ({"generate": {"decoding": {"topp": 1}}}, r"generate.decoding.topp; did you mean generate.decoding.top_p"),
        ({"zzz": 1}, "unknown key zzz; known here: data, ingest, run"),
        ({"sft": {"rows": "eight"}}, "r.toml: sft.rows: is 'eight'; write a whole number"),
        ({"sft": {"rows": 0}}, "r.toml: sft: rows must be positive, not 0"),
        ({"sft": {"pools": ["medicine"]}}, r"sft.pools\[0\]: is 'medicine'; write one of 'general', 'medical'"),
        ({"data": {}}, "r.toml: data.root: is missing; add it"),
        ({"curate": {"personal_data": "hide"}}, "curate.personal_data: is 'hide'; write one of 'drop', 'mask'"),
        ({"mix": {"weights": {"a": 1, "b": "two"}}}, "mix.weights.b: is 'two'; write a number"),
        ({"curate": {"sources": {"a": {"min_answer_chars": "x"}}}}, "curate: sources.a: min_answer_chars: is 'x'; write a whole number"),
        ({"curate": {"sources": {"a": {"max_repeats": 0}}}}, "curate: sources.a: max_repeats is 0; write a number of at least 1"),
        ({"tokenizer": {"template": "alpacca"}}, "unknown prompt template 'alpacca'; known: medchatzh"),
        ({"sft": 3}, "sft: is 3; write a table of keys and values"),
    ],
)
def test_mistakes_are_told_with_file_and_path(changes, message):
    table = {**MINIMAL, **changes}
    with pytest.raises(ValueError, match=message):
        recipe.convert(table, Recipe, "r.toml")


def test_what_is_missing_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[data]\nroot = "medchatzh:samples"\n', "utf-8")
    with pytest.raises(ValueError, match=r"mine.toml: ingest.sources: is empty; add at least one \[\[ingest.sources\]\] with name"):
        Plan(path, [], tmp_path)
    path.write_text("[[ingest.sources]]\nname = 'a'\npath = '*'\n", "utf-8")
    with pytest.raises(ValueError, match="mine.toml: data: is missing; add it"):
        Plan(path, [], tmp_path)
    with pytest.raises(ValueError, match=r"--runs .*: .*mine.toml is a file; give a folder"):
        Plan(RECIPES / "quickstart.toml", [], path)


def test_overrides_are_toml_values_or_strings():
    table = recipe.override(MINIMAL, ["sft.learning_rate=1e-4", "run.name=trial 1", 'sft.pools=["general"]', "data.root=/x"])
    assert table["sft"] == {"learning_rate": 1e-4, "pools": ["general"]} and table["run"]["name"] == "trial 1"
    assert table["data"] == {"root": "/x"} and MINIMAL["data"] == {"root": "medchatzh:samples"}
    for wrong in ("sft.rows", "=3", "sft..rows=3"):
        with pytest.raises(ValueError, match=r"write section.key=value"):
            recipe.override(MINIMAL, [wrong])


def test_files_that_are_no_recipes(tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("[sft\n")
    (tmp_path / "gbk.toml").write_bytes("名 = 1".encode("gbk"))
    for path, message in [
        (broken, "not TOML.*line 1"),
        (tmp_path / "none.toml", r"no such recipe \(recipes in that folder: .*broken.toml"),
        (tmp_path, "is a folder"),
        (tmp_path / "gbk.toml", "not UTF-8"),
    ]:
        with pytest.raises(ValueError, match=message):
            recipe.load_toml(path)


def test_missing_data_folder_names_the_override(tmp_path):
    with pytest.raises(ValueError, match="data.root: /nowhere is not a folder; give one with --set data.root="):
        Plan(RECIPES / "quickstart.toml", ["data.root=/nowhere"], tmp_path)


def names(plan):
    return {name: step.fingerprint for name, step in plan.steps.items()}


def test_a_change_moves_the_fingerprints_that_depend_on_it_and_no_other(tmp_path):
    path = RECIPES / "quickstart.toml"
    before, after = names(Plan(path, [], tmp_path)), names(Plan(path, ["sft.learning_rate=0.5"], tmp_path))
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {
        "sft", "sft@no_medical", "generate@medchatzh", "generate@no_medical", "score@judge", "score@judge_second", "evaluate", "report",
    }  # fmt: skip


def test_an_arm_shares_every_step_it_does_not_change(tmp_path):
    steps = names(Plan(RECIPES / "quickstart.toml", [], tmp_path))
    assert all(steps[stage] == steps[f"{stage}@no_medical"] for stage in ("ingest", "curate", "pretrain", "reward", "score"))
    assert steps["sft"] != steps["sft@no_medical"]


def test_parts_to_leave_out_by_name(tmp_path):
    path = RECIPES / "quickstart.toml"
    plan = Plan(path, ['ablation.without=["books", "reward_filter", "loop", "medical"]'], tmp_path)
    assert list(plan.arms) == ["no_books", "no_reward_filter", "no_loop", "no_medical"]
    steps = names(plan)
    first_changed = {"no_books": "pretrain", "no_reward_filter": "score", "no_loop": "curate", "no_medical": "sft"}
    order = ["ingest", "curate", "tokenizer", "pretrain", "reward", "score", "mix", "sft"]
    for arm, stage in first_changed.items():
        changed = [one for one in order if steps[one] != steps[f"{one}@{arm}"]]
        assert changed[0] == stage and "sft" in changed, arm
    assert "loop" not in plan.arms["no_loop"].curate.rules
    assert len(plan.arms["no_loop"].curate.rules) == len(plan.recipe.curate.rules) - 1
    each = Plan(path, ['ablation.without=["each_rule"]'], tmp_path)
    assert len(each.arms) == len(plan.recipe.curate.rules) > 5
    with pytest.raises(ValueError, match=r"quickstart.toml: ablation.without: 'book' is no part to leave out; known: books, "):
        Plan(path, ['ablation.without=["book"]'], tmp_path)


def test_an_arm_spelt_out_stands_for_the_one_of_its_name(tmp_path):
    plan = Plan(RECIPES / "quickstart.toml", ["arms.no_medical.sft.epochs=2"], tmp_path)
    assert (plan.arms["no_medical"].sft.epochs, plan.arms["no_medical"].sft.pools) == (2, plan.recipe.sft.pools)


def test_other_seeds_train_again_and_share_what_draws_nothing(tmp_path):
    plan = Plan(RECIPES / "quickstart.toml", ["ablation.seeds=[44, 45]"], tmp_path)
    steps = names(plan)
    for stage in ("ingest", "curate", "books", "tokenizer"):
        assert steps[stage] == steps[f"{stage}@medchatzh#44"] == steps[f"{stage}@no_medical#45"]
    for stage in ("pretrain", "reward", "mix"):
        assert len({steps[stage], steps[f"{stage}@medchatzh#44"], steps[f"{stage}@no_medical#45"]}) == 3
        assert steps[f"{stage}@medchatzh#44"] == steps[f"{stage}@no_medical#44"]
    made = [name for name in steps if name.startswith("generate@") and "#" in name]
    assert made == ["generate@medchatzh#44", "generate@no_medical#44", "generate@medchatzh#45", "generate@no_medical#45"]
    assert plan.steps["sft@medchatzh#44"].seed == 44 and plan.steps["generate@medchatzh#44"].seed == plan.seed
    assert set(made) <= set(plan.steps["evaluate"].inputs) and not set(made) & set(plan.steps["report"].inputs)
    with pytest.raises(ValueError, match="write each once"):
        Plan(RECIPES / "quickstart.toml", ["ablation.seeds=[44, 44]"], tmp_path)


def test_another_judge_is_the_reward_stage_with_a_change(tmp_path):
    plan = Plan(RECIPES / "quickstart.toml", ["judges.second.learning_rate=0.1"], tmp_path)
    assert plan.steps["reward@second"].seed == 44
    assert plan.steps["reward@second"].config == msgspec.structs.replace(plan.recipe.reward, learning_rate=0.1)
    assert plan.steps["evaluate"].inputs["judge@second"].inputs["reward"].fingerprint == plan.steps["reward@second"].fingerprint
    with pytest.raises(ValueError, match=r"quickstart.toml: judges.second: unknown key learning_rat; did you mean learning_rate"):
        Plan(RECIPES / "quickstart.toml", ["judges.second.learning_rat=0.1"], tmp_path)
    with pytest.raises(ValueError, match=r"judges.second.base: /nowhere is not a folder"):
        Plan(RECIPES / "quickstart.toml", ["judges.second.base=/nowhere"], tmp_path)


def test_a_mistake_in_an_arm_names_the_arm(tmp_path):
    with pytest.raises(ValueError, match=r"quickstart.toml: arms.no_medical: unknown key sft.pool; did you mean sft.pools"):
        Plan(RECIPES / "quickstart.toml", ['arms.no_medical.sft.pool=["general"]'], tmp_path)
    with pytest.raises(ValueError, match="arms.canned: choose another name"):
        Plan(RECIPES / "quickstart.toml", ["arms.canned.sft.rows=2"], tmp_path)
    with pytest.raises(ValueError, match="arms.no_medical.evaluate: is the same for all arms"):
        Plan(RECIPES / "quickstart.toml", ["arms.no_medical.evaluate.num_resamples=5"], tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.main=canned", "run.main: 'canned' is the name of another system"),
        ("ingest.sources=[]", "ingest.sources: is empty"),
        ("pretrain.base=/nowhere", "pretrain.base: /nowhere is not a folder"),
        ("pretrain.architecture.num_heads=0", "must be at least 1"),
        ("reward.rankings=0", "rankings must be at least 1"),
        ("sft.max_steps=-1", "max_steps, weight_decay and neftune_alpha must not be negative"),
        ("generate.max_questions=-3", "max_questions must not be negative"),
        ("generate.kind=canned", "unknown key generate.kind"),
        ("run.seed=-1", "seed is -1; write a number from 0"),
        ("run.name=../evil", "write a plain folder name"),
        ("sft.learning_rate=nan", "sft.learning_rate: nan is not a number to work with"),
        ("pretrain.architecture={max_positions=64}", "max_new_tokens = 160 leaves no room .*max_positions = 64"),
        ("sft.pools=[]", "sft.pools: is empty"),
        ("mix.weights={nobody=0.5}", "mix.weights.nobody: no such source; known: .*western"),
        ("curate.sources.zzz.min_answer_chars=3", "curate.sources.zzz: no such source; known: .*western"),
        ("curate.medical.tokenizer=/nope", "curate: tokenizer /nope: counts nothing, as min_answer_tokens is 0"),
        ("mix.max_by_source={western=-1}", "weights and bounds must not be negative"),
    ],
)
def test_what_would_fail_late_fails_at_once(override, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Plan(RECIPES / "quickstart.toml", [override], tmp_path).until("report")


def test_an_arm_that_learns_from_a_pool_without_a_source(tmp_path):
    path = tmp_path / "no_general.toml"
    text = (RECIPES / "quickstart.toml").read_text("utf-8").replace('pool = "general"', 'pool = "medical"')
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())  # and with Notepad's byte-order mark
    with pytest.raises(ValueError, match="sft.pools: no source of ingest.sources is of pool 'general'"):
        Plan(path, [], tmp_path).until("report")
    assert [work.stage for work in Plan(path, [], tmp_path).until("curate")] == ["ingest", "curate"]


def test_other_weights_in_the_same_folder_are_another_run(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    found = []
    for weights in (b"1", b"22"):
        (base / "model.safetensors").write_bytes(weights)
        found.append(names(Plan(RECIPES / "quickstart.toml", [f"pretrain.base={base}"], tmp_path)))
    assert found[0]["tokenizer"] == found[1]["tokenizer"] and found[0]["pretrain"] != found[1]["pretrain"]


def test_the_reports_command_holds_the_overrides_but_no_paths(tmp_path):
    root = RECIPES.parent / "src/medchatzh/samples"
    plan = Plan(RECIPES / "quickstart.toml", [f"data.root={root}", "sft.rows=2"], tmp_path)
    assert plan.recipe.report.command == "medchatzh run quickstart.toml --set data.root=FOLDER --set sft.rows=2"
