"""The command: exit status, what it prints, how much it reads, and what it does when a check breaks."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from medchatzh.doctor import add_arguments, examine, finding, main, sample, show
from medchatzh.doctor.subject import Subject
from tests.doctor.patients import alpaca, exchanges, write_lines

ROOT = Path(__file__).parents[2]


def options(*arguments):
    command = argparse.ArgumentParser()
    add_arguments(command)
    return command.parse_args([str(argument) for argument in arguments])


@pytest.fixture
def at(patient, monkeypatch):
    """main() on the fixture's machine."""
    monkeypatch.setattr("medchatzh.doctor.machine.look", lambda: patient.machine)
    return lambda *arguments: main(options(*arguments, "--runs", patient.runs))


def test_sound_is_status_0(at, patient, capsys):
    assert at(patient.recipe) == 0
    assert "错误 error 0 · 警告 warning 0" in capsys.readouterr().out


def test_warnings_alone_are_status_0(at, patient, capsys):
    assert at(patient.recipe, "--set", "sft.epochs=20") == 0
    told = capsys.readouterr().out
    assert "many_epochs · 轮数太多" in told and "sft.epochs" in told and "→" in told


def test_an_error_is_status_1_in_both_languages(at, patient, capsys):
    assert at(patient.recipe, "--set", "sft.precision=fp16") == 1
    told = capsys.readouterr().out
    assert "✗ 错误 error  fp16_on_cpu · fp16 需要 CUDA" in told and 'set sft.precision = "auto"' in told


def test_a_recipe_that_is_not_there_is_one_finding(at, patient, capsys):
    assert at(patient.folder / "nowhere.toml") == 1
    assert "no such recipe" in capsys.readouterr().out


def test_without_a_recipe_only_the_machine_is_looked_at(at, patient, capsys):
    assert at() == 0
    assert f"{len(finding.checks(('machine',)))} 项检查" in capsys.readouterr().out


def test_json(at, patient, capsys):
    assert at(patient.recipe, "--set", "sft.precision=fp16", "--json") == 1
    table = json.loads(capsys.readouterr().out)
    (found,) = table["findings"]
    assert found["check"] == "fp16_on_cpu" and found["severity"] == "error" and found["where"] == "sft.precision"
    assert found["fault_zh"] and found["remedy_zh"] and table["machine"]["gpus"] == []


def test_a_check_that_breaks_is_a_note_and_the_others_go_on(patient, monkeypatch):
    def breaks(subject):
        raise RuntimeError("the disk spoke Latin")

    finding.checks()
    broken = finding.CHECKS["fp16_on_cpu"]._replace(find=breaks)
    monkeypatch.setitem(finding.CHECKS, "fp16_on_cpu", broken)
    patient.change("sft.epochs=20")
    found = {one.check: one for one in patient.findings()}
    assert found["fp16_on_cpu"].severity == "note" and "could not check" in found["fp16_on_cpu"].what
    assert "the disk spoke Latin" in found["fp16_on_cpu"].what and "many_epochs" in found


def test_so_many_rows_of_a_source_are_read_and_no_more(patient, monkeypatch):
    write_lines(patient.data / "medical.jsonl", alpaca(exchanges() * 50))
    read = 0

    def counted(*arguments):
        nonlocal read
        for record in read_source(*arguments):
            read += 1
            yield record

    read_source = sample.read_source
    monkeypatch.setattr(sample, "read_source", counted)
    subject = Subject(patient.machine, patient.recipe, patient.settings, patient.runs)
    examine(subject)
    assert read <= sample.MAX_RECORDS * len(subject.sources)
    medical = subject.sources[0]
    assert len(medical.records) == sample.MAX_RECORDS and not medical.is_whole
    assert 2500 < medical.num_records < 12_500  # 5,000 there are; by bytes, with JSON around the texts


def test_no_time_left_is_told(patient, monkeypatch):
    monkeypatch.setattr(sample, "MAX_SECONDS", 0.0)
    found = patient.findings()
    assert {one.check for one in found if one.severity == "note"} == {"sources"}
    assert not [one for one in found if one.severity != "note"]  # what was not seen is no fault


def test_of_a_mix_so_many_lines_are_read(patient, monkeypatch):
    monkeypatch.setattr(sample, "MAX_LINES", 10)
    folder = patient.mixed(exchanges(), exchanges()[:1])
    (folder / "train.jsonl").write_text((folder / "train.jsonl").read_text("utf-8") + "no JSON, and never reached\n" * 3000, "utf-8")
    assert len(sample.lines(folder / "train.jsonl", sample.Dialogue, 10)) == 10


def test_native_windows_is_told_so_without_what_it_has_not():
    """There, `fcntl` cannot be imported, and so none of the stages can."""
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "import argparse, msgspec; from medchatzh import doctor; from medchatzh.doctor import machine\n"
        "here = msgspec.structs.replace(machine.look(), platform='win32'); machine.look = lambda: here\n"
        "command = argparse.ArgumentParser(); doctor.add_arguments(command); sys.exit(doctor.main(command.parse_args(['x.toml'])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "WSL2" in done.stdout, done.stderr


def test_importing_the_command_is_light():
    code = "import sys; import medchatzh.doctor; print([name for name in ('torch', 'numba', 'msgspec') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_page_of_checks_is_in_step():
    """`docs/doctor.md` is `show.page()`."""
    assert (ROOT / "docs" / "doctor.md").read_text("utf-8") == show.page()
    assert len(finding.checks()) >= 20 and all(one.fault and one.remedy and one.meaning for one in finding.checks())
