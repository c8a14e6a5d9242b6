"""The cache of answers: what was answered is never asked again, whoever is killed, and it changes no byte."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medchatzh.models.served import answers
from medchatzh.models.served.answers import answer_all, key
from medchatzh.models.served.wire import Endpoint, Request, Sampling
from medchatzh.records import Turn
from tests.models.serving import Fault, Server, reply

SHORT = Sampling(max_tokens=64)


def at(server, **settings):
    return Endpoint(base_url=server.base_url, model="org/some-model", **settings)


def ask(number, sampling=SHORT, seed=7):
    return Request((Turn("user", f"第{number}个问题？"),), sampling, seed)


def texts(given):
    return [answer.text for answer in given]


def lines(cache):
    [path] = cache.glob("answers-*.jsonl")
    return path.read_bytes().splitlines()


def test_answers_stand_in_the_order_of_the_requests_however_they_came(tmp_path):
    with Server(fault=lambda prompt, _: Fault("slow", seconds=0.1) if "第0个" in prompt else None) as server:
        told = answer_all(at(server), [ask(n) for n in range(12)], tmp_path, "x")
    assert texts(told) == [reply(f"第{n}个问题？") for n in range(12)]


def test_nothing_is_asked_twice_and_equal_requests_once(tmp_path):
    with Server() as server:
        first = answer_all(at(server), [ask(n % 4) for n in range(10)], tmp_path, "x")
        assert len(server.asked) == len(lines(tmp_path)) == 4
        more = answer_all(at(server), [ask(n) for n in range(9, -1, -1)], tmp_path, "x")
        assert len(server.asked) == 10 and more[:-5:-1] == first[:4]
        assert answer_all(at(server), [ask(n) for n in range(9, -1, -1)], tmp_path / "empty", "x") == more


def test_where_all_is_known_neither_server_nor_key_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret-0123")
    with Server(key="sk-secret-0123") as server:
        endpoint = at(server, api_key_env="SOME_KEY")
        told = answer_all(endpoint, [ask(0)], tmp_path, "x")
    monkeypatch.delenv("SOME_KEY")
    assert answer_all(endpoint, [ask(0)], tmp_path, "x") == told
    assert all(b"secret" not in path.read_bytes() and "secret" not in path.name for path in tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="SOME_KEY is not set"):
        answer_all(endpoint, [ask(1)], tmp_path, "x")


def test_a_key_stands_for_all_that_an_answer_depends_on_and_for_nothing_else():
    plain = Endpoint(base_url="http://host/v1", model="m")
    others = [
        (msgspec.structs.replace(plain, base_url="http://other/v1"), ask(0)),
        (msgspec.structs.replace(plain, model="n"), ask(0)),
        (msgspec.structs.replace(plain, extra={"n": 1}), ask(0)),
        (plain, ask(1)),
        (plain, ask(0, seed=8)),
        (plain, ask(0, Sampling(max_tokens=65))),
        (plain, Request("第0个问题？", SHORT, 7)),
        (plain, Request((Turn("system", "第0个问题？"),), SHORT, 7)),
    ]
    keys = [key(*other) for other in others]
    assert len({key(plain, ask(0)), *keys}) == len(others) + 1
    faster = msgspec.structs.replace(plain, max_concurrency=99, timeout_s=1.0, api_key_env="KEY", prompt_price=3.0, max_retries=0)
    assert key(faster, ask(0)) == key(plain, ask(0))


@settings(max_examples=20)
@given(torn=st.integers(0, 400), data=st.data())
def test_what_was_written_whole_is_kept_and_what_was_torn_is_asked_again(tmp_path_factory, torn, data):
    cache = tmp_path_factory.mktemp("cache")
    with Server() as server:
        whole = answer_all(at(server), [ask(n) for n in range(6)], cache, "x")
        [path] = cache.glob("*.jsonl")
        left = path.read_bytes()[: max(0, path.stat().st_size - torn)]
        path.write_bytes(left)
        server.asked.clear()
        assert answer_all(at(server), [ask(n) for n in range(6)], cache, "x") == whole
    assert len(server.asked) == 6 - left.count(b"\n")
    assert path.read_bytes().startswith(left[: left.rfind(b"\n") + 1])
    assert Counter(msgspec.json.decode(line)[0] for line in lines(cache)) == Counter(key(at(server), ask(n)) for n in range(6))


def test_a_line_that_is_no_answer_is_told_with_its_place(tmp_path):
    with Server() as server:
        answer_all(at(server), [ask(0)], tmp_path, "x")
        [path] = tmp_path.glob("*.jsonl")
        path.write_bytes(b'["aa", {"text": 1}]\n' + path.read_bytes())
        with pytest.raises(ValueError, match=r"answers-org_some-model-\w+\.jsonl:1: not a cached answer: .*delete that line"):
            answer_all(at(server), [ask(0)], tmp_path, "x")


def test_a_prompt_that_is_too_long_is_not_remembered(tmp_path):
    def fault(prompt, times):
        return Fault(status=400, body={"error": {"message": "context length"}}) if "第1个" in prompt and times < 2 else None

    with Server(fault=fault) as server:
        told = answer_all(at(server), [ask(0), ask(1)], tmp_path, "x")
        assert [answer.finish for answer in told] == ["stop", "prompt_too_long"] and len(lines(tmp_path)) == 1
        # the server was started again with more room
        assert texts(answer_all(at(server), [ask(0), ask(1)], tmp_path, "x")) == [reply("第0个问题？"), reply("第1个问题？")]


def test_where_no_prompt_fits_it_is_an_error(tmp_path):
    refused = Fault(status=400, body={"error": {"message": "maximum context length is 64 tokens"}})
    with Server(fault=lambda *_: refused) as server, pytest.raises(ValueError, match="no room for any of 3 prompts: lower max_tokens"):
        answer_all(at(server), [ask(n) for n in range(3)], tmp_path, "x")


def test_what_came_before_a_failure_is_kept(tmp_path):
    broken = True
    with Server(fault=lambda prompt, _: Fault(status=400) if broken and "第5个" in prompt else None, seconds=0.01) as server:
        with pytest.raises(ValueError, match="HTTP 400"):
            answer_all(at(server, max_concurrency=2), [ask(n) for n in range(20)], tmp_path, "x")
        broken = False
        answer_all(at(server, max_concurrency=2), [ask(n) for n in range(20)], tmp_path, "x")
    assert Counter(server.prompts) == Counter([f"第{n}个问题？" for n in range(20)] + ["第5个问题？"])


SCRIPT = """
import signal
import sys
from pathlib import Path
from medchatzh.models.served.answers import answer_all
from medchatzh.models.served.wire import Endpoint, Request, Sampling
from medchatzh.records import Turn, write

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a job in the background of a shell is started without
url, first, last, cache, out = sys.argv[1:]
endpoint = Endpoint(base_url=url, model="org/some-model", max_concurrency=4)
requests = [Request((Turn("user", f"第{n}个问题？"),), Sampling(max_tokens=64), 7) for n in range(int(first), int(last))]
write(Path(out), answer_all(endpoint, requests, Path(cache), "x"))
"""


def process(server, first, last, cache, out):
    arguments = [sys.executable, "-c", SCRIPT, server.base_url, str(first), str(last), str(cache), str(out)]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_killed_at_any_moment_it_loses_at_most_what_was_under_way(tmp_path):
    num, kills, chance = 60, 4, random.Random(0)
    with Server() as server:
        answer_all(at(server), [ask(n) for n in range(num)], tmp_path / "expected", "x")
        server.asked.clear()
        server.seconds = 0.02
        for kill in range(kills):
            enough = len(server.asked) + chance.randint(10, 16)
            running = process(server, 0, num, tmp_path / "cache", tmp_path / "out")
            while len(server.asked) < enough:
                assert running.poll() is None, running.stderr.read()
                time.sleep(0.002)
            time.sleep(chance.random() * 0.02)
            running.send_signal(signal.SIGKILL)
            running.wait()
            running.stderr.close()
            assert len(lines(tmp_path / "cache")) >= len(set(server.prompts)) - 4 * (kill + 1)
        running = process(server, 0, num, tmp_path / "cache", tmp_path / "out")
        assert running.wait(60) == 0, running.stderr.read()
        running.stderr.close()
        told = answer_all(at(server), [ask(n) for n in range(num)], tmp_path / "cache", "x")
    counted = Counter(msgspec.json.decode(line)[0] for line in lines(tmp_path / "cache"))
    assert counted == Counter(key(at(server), ask(n)) for n in range(num))
    assert len(server.asked) <= num + kills * 4
    encoded = b"".join(msgspec.json.encode(answer) + b"\n" for answer in told)
    assert (tmp_path / "out").read_bytes() == encoded and texts(told) == [reply(f"第{n}个问题？") for n in range(num)]


def test_ctrl_c_leaves_at_once_and_keeps_what_came(tmp_path):
    with Server(fault=lambda prompt, times: Fault("slow", seconds=20) if prompt[1] in "89" and times == 1 else None) as server:
        running = process(server, 0, 10, tmp_path / "cache", tmp_path / "out")
        while len(server.asked) < 10:
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.002)
        time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=15)  # the slow answers take 20
        assert running.returncode != 0 and len(lines(tmp_path / "cache")) == 8
        answer_all(at(server), [ask(n) for n in range(10)], tmp_path / "cache", "x")
    assert len(server.asked) == 12


def test_two_processes_at_once_ask_nothing_twice(tmp_path):
    with Server(seconds=0.01) as server:
        both = [process(server, start, start + 30, tmp_path / "cache", tmp_path / f"out{start}") for start in (0, 15)]
        assert [running.wait(60) for running in both] == [0, 0]
        told = [running.stderr.read().decode() for running in both]
        for running in both:
            running.stderr.close()
    assert Counter(server.prompts) == Counter(f"第{n}个问题？" for n in range(45))
    assert server.most_at_once <= 4 and len(lines(tmp_path / "cache")) == 45
    assert sum("waiting for another process that asks this model" in each for each in told) <= 1
    for start in (0, 15):
        given = [msgspec.json.decode(line)["text"] for line in (tmp_path / f"out{start}").read_bytes().splitlines()]
        assert given == [reply(f"第{n}个问题？") for n in range(start, start + 30)]


def test_the_file_is_for_one_writer_at_a_time(tmp_path, capfd):
    path = tmp_path / "answers.jsonl"
    entered = threading.Event()

    def enter():
        with answers._opened(path):
            entered.set()

    with answers._opened(path):
        other = threading.Thread(target=enter)
        other.start()
        assert not entered.wait(0.2)
    other.join(5)
    assert entered.is_set() and "waiting for another process that asks this model" in capfd.readouterr().err


def test_what_another_process_asked_meanwhile_is_not_asked_again(tmp_path):
    with Server() as server:
        told = answer_all(at(server), [ask(0)], tmp_path / "other", "x")
        [theirs] = (tmp_path / "other").iterdir()
        with answers._opened(tmp_path / "cache" / theirs.name) as file:
            waiting = threading.Thread(target=lambda: told.extend(answer_all(at(server), [ask(0)], tmp_path / "cache", "x")))
            waiting.start()
            time.sleep(0.1)
            file.write(theirs.read_bytes())
        waiting.join(5)
    assert told[0] == told[1] and len(server.asked) == 1
