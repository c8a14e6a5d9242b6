"""Verdicts: kept whatever happens, one labeller in one place, the last word counts."""

import errno
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from medchatzh.label.session import Session
from medchatzh.label.tasks import load
from medchatzh.label.verdicts import Journal, Verdict, path_of, read_verdicts


@pytest.fixture
def session(folder):
    opened = Session(folder, "wang")
    yield opened
    opened.close()


def test_ranks_are_kept_by_answer_not_by_place(session, folder):
    task = session.queue[0]
    shown = session.shown(task)
    session.save(task, [7, 2, 2, 9], note=" 好 ", seconds=3.14159)
    verdict = session.verdict(task)
    assert [verdict.ranks[number] for number in shown] == [3, 1, 1, 4] and list(verdict.shown) == shown
    assert verdict.note == "好" and verdict.seconds == 3.1
    assert read_verdicts(folder, "wang", load(folder)[1]) == {task.key: verdict}


def test_it_goes_on_where_it_stopped(session, folder):
    for at in (0, 1, 3):
        session.save(session.queue[at], [1, 2, 3, 4])
    session.close()
    again = Session(folder, "wang")
    assert again.num_done == 3 and again.next() == 2 and again.next(2) == 4
    assert [task.key for task in again.queue] == [task.key for task in session.queue]
    for at in range(len(again.queue)):
        again.save(again.queue[at], [1, 1, 1, 1])
    assert again.next() is None and again.next(3) is None
    again.close()


def test_the_last_word_counts_and_all_are_kept(session, folder):
    task = session.queue[0]
    session.save(task, [1, 2, 3, 4])
    session.save(task, [], skip="unclear_question")
    assert session.num_done == 1 and session.verdict(task).skip == "unclear_question" and session.version(task) == 2
    assert len(path_of(folder, "wang").read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("places", "more", "message"),
    [
        ([1, 2, 3], {}, "give each of the 4 answers a place"),
        ([], {}, "give each of the 4 answers a place"),
        ([1, 2, 3, 4], {"skip": "all_wrong"}, "give each of the 4 answers a place"),
        ([], {"skip": "bored"}, "unknown reason bored"),
        ([], {"skip": "other"}, "say why in a note"),
        ([1, 2, 3, 4], {"note": "长" * 2001}, "2,001 characters"),
    ],
)
def test_what_is_no_verdict_is_not_kept(session, folder, places, more, message):
    with pytest.raises(ValueError, match=message):
        session.save(session.queue[0], places, **more)
    assert path_of(folder, "wang").read_bytes() == b"" and session.num_done == 0


def test_two_labellers_at_once_but_one_labeller_once(session, folder):
    other = Session(folder, "李医生")
    other.save(other.queue[0], [1, 2, 3, 4])
    session.save(session.queue[0], [1, 2, 3, 4])
    other.close()
    with pytest.raises(ValueError, match="wang is ranking in another terminal or page"):
        Session(folder, "wang")
    session.close()
    Session(folder, "wang").close()


@pytest.mark.parametrize(
    ("name", "hint"), [("wamg", "did you mean wang"), ("../wang", "no labeller '../wang'"), ("", "prepare --labellers")]
)
def test_unknown_labellers(folder, name, hint):
    with pytest.raises(ValueError, match=hint):
        Session(folder, name)
    assert list((folder / "verdicts").iterdir()) == [], "and no file of theirs"


def test_a_line_cut_at_any_byte_costs_that_verdict_alone(session, folder):
    for at in range(3):
        session.save(session.queue[at], [1, 2, 3, 4], note="备注")
    session.close()
    path = path_of(folder, "wang")
    whole = path.read_bytes()
    ends = [end for end, byte in enumerate(whole, 1) if byte == 10]
    tasks = load(folder)[1]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        kept = sum(end <= size for end in ends)
        assert len(read_verdicts(folder, "wang", tasks)) == kept and path.stat().st_size == size, "who reads changes nothing"
        journal = Journal(folder, "wang", tasks)
        if kept < 3:
            journal.append(Verdict(task=session.queue[kept].key, shown=(0, 1, 2, 3), ranks=(1, 1, 1, 1)))
        journal.close()
        assert len(read_verdicts(folder, "wang", tasks)) == min(kept + 1, 3), "and what comes after the cut is whole"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"task":"KEY","shown":[0,1,1,3],"ranks":[1,1,1,1]}', "shown is not an order"),
        ('{"task":"KEY","shown":[0,1,2,3]}', "either ranks or a reason"),
        ('{"task":"KEY","shown":[0,1,2,3],"ranks":[1,2,3]}', "are not the ranks of 4 answers"),
        ('{"task":"KEY","shown":[0,1,2,3],"ranks":[2,3,4,5]}', "are not the ranks of 4 answers"),
        ('{"task":"0000","shown":[0,1]}', "task 0000 is not in this folder's tasks"),
        ("\0\0\0\0", "not a verdict"),
    ],
)
def test_a_broken_line_is_named(session, folder, line, message):
    path = path_of(folder, "wang")
    path.write_text(line.replace("KEY", session.queue[0].key) + "\n", "utf-8")
    with pytest.raises(ValueError, match=message) as raised:
        read_verdicts(folder, "wang", load(folder)[1])
    assert "wang.jsonl:1: " in str(raised.value)


def test_a_full_disk_leaves_the_file_as_it_was(session, folder, monkeypatch):
    session.save(session.queue[0], [1, 2, 3, 4])
    before = path_of(folder, "wang").read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        session.save(session.queue[1], [1, 2, 3, 4])
    assert path_of(folder, "wang").read_bytes() == before and session.num_done == 1
    monkeypatch.undo()
    session.save(session.queue[1], [4, 3, 2, 1])
    assert len(read_verdicts(folder, "wang", load(folder)[1])) == 2


WORK = """
import sys
from pathlib import Path
from medchatzh.label.session import Session
session = Session(Path(sys.argv[1]), "wang")
print("ready", flush=True)
while True:
    for number, task in enumerate(session.queue):
        session.save(task, [1, 2, 3, 4], note=f"{session.version(task)} " + "长" * 500)
        print(number, session.version(task) - 1, flush=True)
"""


def test_kill_9_loses_nothing_that_was_said_to_be_saved(folder):
    moments = random.Random(3)
    tasks = load(folder)[1]
    path = path_of(folder, "wang")
    for _ in range(8):
        path.unlink(missing_ok=True)
        work = subprocess.Popen([sys.executable, "-c", WORK, str(folder)], stdout=subprocess.PIPE, text=True)
        assert work.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.1))
        os.kill(work.pid, signal.SIGKILL)
        said = work.stdout.read().splitlines()
        work.wait()
        num_said = sum(line.count(" ") for line in said if line)
        Journal(folder, "wang", tasks).close()
        num_kept = len(path.read_bytes().splitlines())
        assert num_said <= num_kept <= num_said + 1
        assert len(read_verdicts(folder, "wang", tasks)) == min(num_kept, 7)
