"""Folders, manifests, fingerprints: done is skipped, a change reruns what depends on it, a kill leaves nothing half-made."""

import subprocess
import sys
import types

import pytest

from medchatzh import run
from medchatzh.recipe import Settings


class Config(Settings, frozen=True):
    value: int = 1
    fail: bool = False


@pytest.fixture
def stage(monkeypatch):
    """A stage module that counts its calls."""
    module = types.ModuleType("medchatzh.example")
    module.VERSION, module.calls = 1, []

    def work(config, inputs, out, context):
        module.calls.append(config.value)
        (out / "half.txt").write_text("half")
        if config.fail:
            raise RuntimeError("killed")
        text = "".join(path.joinpath("half.txt").read_text() for path in inputs.values())
        (out / "half.txt").write_text(f"{text}{config.value};")
        return run.Result(num_in=3, num_out=2, dropped={"short_answer": 1})

    module.run = work
    monkeypatch.setitem(sys.modules, "medchatzh.example", module)
    return module


def chain(tmp_path, first=1, second=2, seed=0, fail=False):
    digests = run.Digests(tmp_path / "digests.json")
    one = run.step(seed, digests, name="one", module="example", config=Config(value=first))
    two = run.step(seed, digests, name="two", module="example", config=Config(value=second, fail=fail), inputs={"one": one})
    return one, two


def execute(tmp_path, steps):
    return [run.execute(step, tmp_path, run.Context()) for step in steps]


def test_done_is_skipped_and_a_change_reruns_only_what_follows(tmp_path, stage):
    execute(tmp_path, chain(tmp_path))
    execute(tmp_path, chain(tmp_path))
    assert stage.calls == [1, 2]
    execute(tmp_path, chain(tmp_path, second=5))
    assert stage.calls == [1, 2, 5]
    execute(tmp_path, chain(tmp_path, first=7, second=5))
    assert stage.calls == [1, 2, 5, 7, 5]


def test_seed_version_and_files_are_in_the_fingerprint(tmp_path, stage):
    def fingerprint(seed=0):
        return run.step(seed, digests, name="one", module="example", config=Config(), files={"raw": raw}).fingerprint

    raw, digests = tmp_path / "raw.txt", run.Digests(tmp_path / "digests.json")
    raw.write_text("a")
    seen = {fingerprint(), fingerprint(seed=1)}
    stage.VERSION = 2
    seen.add(fingerprint())
    raw.write_text("bb")
    seen.add(fingerprint())
    assert len(seen) == 4


def test_manifest_tells_how_it_was_made(tmp_path, stage):
    one, two = execute(tmp_path, chain(tmp_path))
    manifest = run.read_manifest(two)
    assert manifest.inputs == {"one": one.name} and manifest.config == {"value": 2, "fail": False}
    assert manifest.num_in == manifest.num_out + sum(manifest.dropped.values())
    assert manifest.outputs == {"half.txt": run.sha256(two / "half.txt")}
    assert {"python", "medchatzh"} <= manifest.versions.keys()


def test_a_failure_leaves_only_a_partial_folder_and_the_next_run_starts_clean(tmp_path, stage):
    with pytest.raises(RuntimeError):
        execute(tmp_path, chain(tmp_path, fail=True))
    finished = [path.name for path in tmp_path.iterdir() if (path / run.MANIFEST).exists()]
    assert len(finished) == 1 and finished[0].startswith("one-")
    two = execute(tmp_path, chain(tmp_path))[1]
    assert (two / "half.txt").read_text() == "1;2;"
    assert not (two.parent / (two.name + run.PARTIAL)).exists()


def test_a_resumable_stage_goes_on_only_with_the_same_settings_and_inputs(tmp_path, stage):
    def work(config, inputs, out, context):
        stage.calls.append((out / run.SCRATCH / "state").exists())
        (out / run.SCRATCH / "state").write_text("5")
        if len(stage.calls) < 4:
            raise RuntimeError("killed")
        (out / "done.txt").write_text("done")
        return run.Result()

    stage.run = work

    def attempt(value=1, given=None):
        step = run.step(0, run.Digests(tmp_path / "d"), name="one", module="example", config=Config(value=value), resumable=True)
        return run.execute(step, tmp_path, run.Context(), out=tmp_path / "out", given=given, only_given=True)

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "rows.jsonl").write_text("{}")
    for value, given in ((1, None), (1, None), (2, None)):
        with pytest.raises(RuntimeError):
            attempt(value, given)
    folder = attempt(2, {"rows": mine})
    assert stage.calls == [False, True, False, False]
    assert sorted(path.name for path in folder.iterdir()) == ["done.txt", run.MANIFEST]
    assert run.read_manifest(folder).inputs["rows"].startswith("mine@")


def test_killed_between_manifest_and_rename(tmp_path, stage):
    one, _ = execute(tmp_path, chain(tmp_path))
    one.rename(one.with_name(one.name + run.PARTIAL))
    execute(tmp_path, chain(tmp_path))
    assert stage.calls == [1, 2] and (one / run.MANIFEST).exists()


def test_a_folder_in_the_way_is_told_before_the_work(tmp_path, stage):
    one, _ = chain(tmp_path)
    (tmp_path / one.folder_name).mkdir()
    with pytest.raises(ValueError, match="move it away"):
        run.execute(one, tmp_path, run.Context())
    assert stage.calls == []


def test_digests_are_remembered_and_follow_the_file(tmp_path):
    raw = tmp_path / "raw.txt"
    raw.write_text("a")
    digests = run.Digests(tmp_path / "cache.json")
    before = digests[raw]
    digests.save()
    assert run.Digests(tmp_path / "cache.json")[raw] == before
    raw.write_text("other")
    assert run.Digests(tmp_path / "cache.json")[raw] != before
    (tmp_path / "cache.json").write_bytes(b"\0\0")
    assert run.Digests(tmp_path / "cache.json")[raw] == run.sha256(raw)


def test_one_process_a_run_folder(tmp_path):
    code = f"from pathlib import Path; from medchatzh.run import lock\nwith lock(Path({str(tmp_path)!r})): print('held')"
    with run.lock(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert other.returncode and "another medchatzh is working there" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "held\n"


def test_a_damaged_manifest_says_what_to_do(tmp_path):
    (tmp_path / run.MANIFEST).write_text('{"stage": 3')
    with pytest.raises(ValueError, match="delete the folder"):
        run.read_manifest(tmp_path)
    with pytest.raises(ValueError, match="not a finished stage"):
        run.read_manifest(tmp_path / "nowhere")


def test_write_atomically_replaces(tmp_path):
    path = tmp_path / "x"
    run.write_atomically(path, b"1")
    run.write_atomically(path, b"22")
    assert path.read_bytes() == b"22" and [found.name for found in tmp_path.iterdir()] == ["x"]
