"""The benchmarks' own code runs with the package as it is, at a size that costs nothing: their commands stand in the docs."""

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{Path(name).stem}", HERE / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_statistics(monkeypatch):
    coverage = load("statistics/coverage.py")
    monkeypatch.setattr(coverage, "CATEGORIES", [120, 101])
    monkeypatch.setattr(coverage, "NUM_RESAMPLES", 100)
    num_systems, num_differences, num_parts = 2, 1, 2
    assert coverage.compared()() == len(coverage.METRICS) * (num_systems + num_differences) * (1 + num_parts)


@pytest.mark.parametrize("script", sorted(str(path.relative_to(HERE)) for path in HERE.rglob("*.py")))
def test_every_script_compiles_and_tells_what_it_is(script):
    code = (HERE / script).read_text("utf-8")
    assert compile(code, script, "exec").co_consts[0].strip()


def test_no_script_overwrites_what_is_kept_unless_told():
    """What a result was measured on stands in it: a run at another size, or on another machine, must not replace it by chance."""
    for path in HERE.rglob("*.py"):
        code = path.read_text("utf-8")
        assert 'parser.add_argument("--out", type=Path, default=' not in code and '"results"' not in code, path
    makefile = (HERE.parent / "Makefile").read_text("utf-8")
    assert all("$(if $(WRITE)," in line for line in makefile.splitlines() if "benchmarks/results/" in line)
