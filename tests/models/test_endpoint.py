"""The client against a real HTTP server: both routes, every fault, limits on a clock of the tests' own, no key anywhere."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.models.served.endpoint import Charge, Client, Limits
from medchatzh.models.served.wire import Answer, Endpoint, Request, Sampling, encode, usage
from medchatzh.recipe import convert
from medchatzh.records import Turn
from tests.models.serving import Fault, Server, reply

SHORT = Sampling(max_tokens=64)


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self):
        self.time, self.sleeps = 1000.0, []

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.time += seconds


def at(server, **settings):
    return Endpoint(base_url=server.base_url, model="some-model", **settings)


def client(server, clock, **settings):
    return Client(at(server, **settings), now=clock.now, sleep=clock.sleep)


def ask(number=0, sampling=SHORT):
    return Request((Turn("user", f"第{number}个问题？"),), sampling, seed=7)


def ask_all(client, requests):
    got = {}
    client.ask_all(requests, got.__setitem__)
    return got


def test_a_conversation_goes_to_chat_completions_with_nothing_that_was_not_set():
    turns = (Turn("user", "咳嗽"), Turn("assistant", "多久了？"), Turn("user", "三天"))
    with Server() as server:
        answer = Client(at(server)).ask(Request(turns, Sampling(), seed=3))
    [(path, body)] = server.asked
    assert path == "/v1/chat/completions"
    assert body == {"model": "some-model", "seed": 3, "messages": [{"role": turn.role, "content": turn.content} for turn in turns]}
    assert answer == Answer(reply("三天"), "stop", 2, len(reply("三天")), "some-model-0125")


def test_a_finished_prompt_goes_to_completions_as_it_is():
    prompt = "问题：咳嗽怎么办\n答案："
    with Server() as server:
        answer = Client(at(server, extra={"n": 1})).ask(Request(prompt, Sampling(max_tokens=9, temperature=0.0, stop=("\n",))))
    path, body = server.asked[0]
    assert path == "/v1/completions" and answer.text == reply(prompt)
    assert body == {"model": "some-model", "prompt": prompt, "seed": 0, "max_tokens": 9, "temperature": 0.0, "stop": ["\n"], "n": 1}


PAPER = Sampling(max_tokens=512, min_tokens=5, temperature=0.0, top_k=40, repetition_penalty=1.2)


@pytest.mark.parametrize(
    ("server", "sampling", "sent"),
    [
        ("vllm", PAPER, {"max_tokens": 512, "min_tokens": 5, "temperature": 0.0, "top_k": 40, "repetition_penalty": 1.2}),
        ("sglang", PAPER, {"max_tokens": 512, "min_tokens": 5, "temperature": 0.0, "top_k": 40, "repetition_penalty": 1.2}),
        ("llama.cpp", Sampling(top_k=40, repetition_penalty=1.2), {"top_k": 40, "repeat_penalty": 1.2, "repeat_last_n": -1}),
        ("openai", Sampling(max_tokens=9, top_p=0.5), {"max_completion_tokens": 9, "top_p": 0.5}),
        ("compatible", Sampling(max_tokens=9), {"max_tokens": 9}),
    ],
)
def test_every_kind_of_server_is_asked_in_its_own_words(server, sampling, sent):
    endpoint = Endpoint(base_url="http://host/v1/", model="m", server=server)
    url, body = encode(endpoint, Request((Turn("user", "问"),), sampling))
    fields = msgspec.json.decode(body)
    assert url == "http://host/v1/chat/completions"
    assert {name: fields[name] for name in fields.keys() - {"model", "messages", "seed"}} == sent


@pytest.mark.parametrize(
    ("server", "sampling", "prompt", "said"),
    [
        ("compatible", PAPER, (Turn("user", "问"),), "sampling.min_tokens: not known to .*'compatible'.*vllm, sglang"),
        ("llama.cpp", PAPER, (Turn("user", "问"),), "sampling.min_tokens"),
        ("openai", Sampling(repetition_penalty=1.2), (Turn("user", "问"),), "vllm, sglang, llama.cpp"),
        ("vllm", Sampling(), "问", "cuts every answer after 16 tokens"),
    ],
)
def test_a_decoding_that_the_server_would_not_do_is_refused(server, sampling, prompt, said):
    with pytest.raises(ValueError, match=said):
        encode(Endpoint(base_url="http://host/v1", model="m", server=server), Request(prompt, sampling))


def test_answers_come_with_their_numbers_and_no_more_at_once_than_allowed():
    with Server(seconds=0.02) as server:
        answers = ask_all(Client(at(server, max_concurrency=4)), [ask(n) for n in range(30)])
    assert {n: answer.text for n, answer in answers.items()} == {n: reply(f"第{n}个问题？") for n in range(30)}
    assert len(server.asked) == 30 and 2 <= server.most_at_once <= 4


FAULTS = [
    Fault(status=500),
    Fault(status=503, body=b"<html><h1>Service</h1>unavailable</html>"),
    Fault("drop"),
    Fault("malformed"),
    Fault("cut"),
    Fault("cut_chunked"),
    Fault("slow", seconds=1.0),
    Fault("drip", seconds=0.02),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kind)
def test_what_passes_is_tried_again(fault, capsys):
    clock = Clock()
    with Server(fault=lambda _, times: fault if times < 3 else None) as server:
        assert client(server, clock, timeout_s=0.25).ask(ask()).text == reply("第0个问题？")
    assert len(server.asked) == 3
    assert 0.5 <= clock.sleeps[0] <= 1 and 1 <= clock.sleeps[1] <= 2 and len(clock.sleeps) == 2
    assert capsys.readouterr().err.count("trying again") == 1


def test_waits_double_and_then_it_gives_up_with_what_to_do():
    clock = Clock()
    with (
        Server(fault=lambda *_: Fault(status=502)) as server,
        pytest.raises(ValueError, match=r"HTTP 502 \(trouble\); gave up after 9") as told,
    ):
        client(server, clock, max_retries=8).ask(ask())
    assert len(server.asked) == 9
    for number, slept in enumerate(clock.sleeps):
        assert min(60, 2**number) / 2 <= slept <= min(60, 2**number)
    assert server.base_url in str(told.value) and "same command again" in str(told.value)


def test_nobody_there_is_told():
    with Server() as server:
        pass
    with pytest.raises(ValueError, match=r"127.0.0.1.*refused.*gave up after 3 attempts.*base_url"):
        client(server, Clock(), max_retries=2).ask(ask())


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_and_is_no_failure(status):
    clock = Clock()
    fault = Fault(status=status, headers={"Retry-After": "7"})
    with Server(fault=lambda _, times: fault if times < 5 else None) as server:
        client(server, clock, max_retries=0).ask(ask())
    assert clock.sleeps == [7.0] * 4


def test_retry_after_may_be_a_date():
    clock = Clock()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    fault = Fault(status=429, headers={"Retry-After": date})
    with Server(fault=lambda _, times: fault if times < 2 else None) as server:
        client(server, clock).ask(ask())
    assert len(clock.sleeps) == 1 and 28 <= clock.sleeps[0] <= 30


def test_retry_after_quiets_all_requests():
    fault = Fault(status=429, headers={"Retry-After": "0.5"})
    with Server(fault=lambda prompt, times: fault if "第4个" in prompt and times < 2 else None, seconds=0.02) as server:
        assert len(ask_all(Client(at(server, max_concurrency=3)), [ask(n) for n in range(60)])) == 60
    refused = server.times[server.prompts.index("第4个问题？")]
    # three at once take 0.4 s for what is left: were it not quiet, most of it would come then
    assert sum(refused + 0.1 < came < refused + 0.45 for came in server.times) == 0
    assert sum(came > refused + 0.45 for came in server.times) > 40


@pytest.mark.parametrize("header", ["soon", "0", ""])
def test_a_retry_after_that_says_nothing_is_a_failure_like_any(header):
    clock = Clock()
    fault = Fault(status=429, headers={"Retry-After": header})
    with Server(fault=lambda *_: fault) as server, pytest.raises(ValueError, match="gave up after 3"):
        client(server, clock, max_retries=2).ask(ask())
    assert len(clock.sleeps) == 2


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "4"}])
def test_the_deadline_ends_it(headers):
    clock = Clock()
    with Server(fault=lambda *_: Fault(status=429, headers=headers)) as server, pytest.raises(ValueError, match="deadline_s"):
        client(server, clock, max_retries=1000, deadline_s=10).ask(ask())
    assert clock.time - 1000 < 10 and len(server.asked) >= 3


def test_a_wait_longer_than_the_deadline_is_not_begun():
    clock = Clock()
    fault = Fault(status=429, headers={"Retry-After": "3600"})
    with Server(fault=lambda *_: fault) as server, pytest.raises(ValueError, match="asks to wait for 3600 s; gave up after 1"):
        client(server, clock).ask(ask())
    assert clock.sleeps == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(status=400, body={"error": {"message": "temperature must be at least 0"}}), "temperature must be.*look at the sampling"),
        (Fault(status=401, body={"error": {"message": "no key"}}), "name the environment variable of a key in api_key_env"),
        (Fault(status=403), "api_key_env"),
        (
            Fault(status=404, body={"object": "error", "message": "The model `some-model` does not exist."}),
            "does not exist.*most end in /v1",
        ),
        (Fault(status=422, body={"detail": [{"loc": ["body"], "msg": "Field required"}]}), "Field required"),
        (Fault(status=402), "no credit left"),
        (Fault(status=429, body={"error": {"message": "You exceeded", "code": "insufficient_quota"}}), "no credit left"),
    ],
)
def test_what_another_attempt_cannot_mend_is_told_at_once(fault, said):
    clock = Clock()
    with Server(fault=lambda *_: fault) as server, pytest.raises(ValueError, match=f"{server.base_url}.*HTTP {fault.status}.*{said}"):
        client(server, clock).ask(ask())
    assert len(server.asked) == 1 and clock.sleeps == []


def test_a_redirection_is_told_and_not_followed(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    with Server() as other:
        moved = Fault(status=302, headers={"Location": f"{other.base_url}/chat/completions"})
        with Server(fault=lambda *_: moved) as server, pytest.raises(ValueError, match=f"moved: set base_url to fit {other.base_url}"):
            Client(at(server, api_key_env="SOME_KEY")).ask(ask())
    assert other.asked == []


@pytest.mark.parametrize(
    ("fault", "finish"),
    [
        (Fault(status=400, body={"error": {"message": "too long", "code": "context_length_exceeded"}}), "prompt_too_long"),
        (Fault(status=400, body={"object": "error", "message": "This model's maximum context length is 9 tokens."}), "prompt_too_long"),
        (Fault(status=400, body={"error": {"message": "the request exceeds", "type": "exceed_context_size_error"}}), "prompt_too_long"),
        (Fault(status=500, body={"error": {"message": "Context size has been exceeded.", "code": 500}}), "prompt_too_long"),
        (Fault(status=400, body={"error": {"message": "unseemly", "code": "data_inspection_failed"}}), "content_filter"),
    ],
)
def test_a_question_that_the_server_refuses_has_an_empty_answer(fault, finish):
    with Server(fault=lambda *_: fault) as server:
        assert Client(at(server)).ask(ask()) == Answer("", finish)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("choice", "text", "finish"),
    [
        ({"finish_reason": "length", "message": {"content": "多休"}}, "多休", "length"),
        ({"finish_reason": "content_filter", "message": {"content": None}}, "", "content_filter"),
        ({"finish_reason": "sensitive", "message": {"content": "略"}}, "略", "content_filter"),
        ({"finish_reason": "eos_token", "message": {"content": " 好\n"}}, " 好\n", "stop"),
        ({"finish_reason": "stop", "message": {"content": None, "refusal": "不便回答"}}, "不便回答", "stop"),
    ],
)
def test_reasons_to_finish_are_ours(choice, text, finish):
    with Server(answer=lambda _: choice) as server:
        answer = Client(at(server)).ask(ask())
    assert (answer.text, answer.finish) == (text, finish)


@pytest.mark.parametrize("reason", [None, "abort", "insufficient_system_resource"])
def test_half_an_answer_is_asked_for_again(reason):
    told = iter([{"finish_reason": reason, "message": {"content": "多"}}])
    with Server(answer=lambda prompt: next(told, reply(prompt))) as server:
        assert client(server, Clock()).ask(ask()).text == reply("第0个问题？")
    assert len(server.asked) == 2


def test_a_finish_that_we_do_not_know_is_no_answer():
    odd = {"finish_reason": "tool_calls", "message": {}}
    with Server(answer=lambda _: odd) as server, pytest.raises(ValueError, match="finish_reason 'tool_calls'"):
        Client(at(server)).ask(ask())
    assert len(server.asked) == 1


def test_one_failure_ends_the_run_but_answers_under_way_are_handed_over():
    def fault(prompt, _):
        return Fault(status=400) if "第5个" in prompt else None

    got = {}
    with Server(fault=fault, seconds=0.03) as server, pytest.raises(ValueError, match="HTTP 400"):
        Client(at(server, max_concurrency=4)).ask_all([ask(n) for n in range(100)], got.__setitem__)
    assert len(got) == len(server.asked) - 1 and {0, 1, 2, 3, 4} <= got.keys() and len(got) < 20


def test_where_an_answer_cannot_be_kept_no_more_are_asked_for():
    def full(*_):
        raise OSError("no space left on device")

    with Server(seconds=0.02) as server, pytest.raises(OSError, match="no space left"):
        Client(at(server, max_concurrency=2)).ask_all([ask(n) for n in range(100)], full)
    assert len(server.asked) <= 3


@given(
    requests=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 400), st.integers(0, 400)), min_size=1, max_size=40),
    per_minute=st.integers(1, 5),
    tokens=st.integers(100, 1000),
)
def test_no_minute_sees_more_than_the_limits(requests, per_minute, tokens):
    limits, now, charges = Limits(per_minute, tokens), 0.0, []
    for gap, estimated, used in requests:
        now += gap
        while not isinstance(started := limits.start(now, estimated), Charge):
            assert started > 0
            now += started
        started.tokens = min(estimated, used)
        charges.append(started)
    for first in charges:
        window = [each for each in charges if first.at <= each.at < first.at + 60]
        assert len(window) <= per_minute
        assert sum(each.tokens for each in window) <= tokens or len(window) == 1


@given(requests=st.integers(0, 5), tokens=st.integers(1, 50), num=st.integers(1, 30))
def test_the_limits_are_used_to_the_full(requests, tokens, num):
    """`num` requests at once of ten tokens take as many minutes as they must, and not one more."""
    limits, now = Limits(requests, tokens), 0.0
    for _ in range(num):
        while not isinstance(started := limits.start(now, 10), Charge):
            now += started
    a_minute = min(requests or num, max(1, tokens // 10))
    assert now == 60 * ((num - 1) // a_minute)


def test_a_client_keeps_to_the_limits():
    clock = Clock()
    with Server() as server:
        asking = client(server, clock, requests_per_minute=4)
        started = []
        for number in range(10):
            asking.ask(ask(number))
            started.append(clock.time - 1000)
    assert started == [0] * 4 + [60] * 4 + [120] * 2


def test_tokens_are_estimated_before_and_counted_after():
    """Seven characters and 64 tokens are 71; what the server counts is 7 + 16, so that after the first two there is room for more."""
    clock = Clock()
    with Server() as server:
        asking = client(server, clock, tokens_per_minute=120)
        for number in range(3):
            asking.ask(ask(number))
        assert clock.sleeps == []
        asking.ask(ask(3))
    assert clock.time == 1060


def test_the_key_is_sent_and_stands_nowhere_else(monkeypatch, capsys):
    monkeypatch.setenv("SOME_KEY", "sk-secret-0123\n")
    with Server(key="sk-secret-0123") as server:
        asking = Client(at(server, api_key_env="SOME_KEY"))
        assert asking.ask(ask()).finish == "stop"
        assert b"secret" not in msgspec.json.encode(asking.endpoint) and "secret" not in repr(asking.endpoint)
        assert all(b"secret" not in part.encode() for part in map(str, encode(asking.endpoint, ask())))
    monkeypatch.setenv("SOME_KEY", "sk-other-4567")
    with Server(key="sk-secret-0123") as server, pytest.raises(ValueError, match=r"Bearer \*\*\*.*set SOME_KEY to a key that may") as told:
        Client(at(server, api_key_env="SOME_KEY")).ask(ask())
    assert "other-4567" not in str(told.value) + capsys.readouterr().err


@pytest.mark.parametrize(("value", "said"), [("", "SOME_KEY is not set"), ("sk 密钥", "copy it again"), ("a\nb", "copy it again")])
def test_a_missing_or_broken_key_is_told_before_anything_is_asked(value, said, monkeypatch):
    monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(ValueError, match=said) as told:
        Client(Endpoint(base_url="http://host/v1", model="m", api_key_env="SOME_KEY"))
    assert not value or value not in str(told.value)


def test_a_proxy_of_the_environment_does_not_stand_before_this_machine(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with Server() as server:
        assert Client(at(server, max_retries=0)).ask(ask()).finish == "stop"
        with pytest.raises(ValueError, match="gave up"):
            Client(Endpoint(base_url="http://203.0.113.1/v1", model="m", max_retries=0)).ask(ask())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "localhost:8000"}, "write it like http://localhost:8000/v1"),
        ({"base_url": "http://host:99999/v1"}, "Port"),
        ({"base_url": "http://user:pass@host/v1"}, "api_key_env"),
        ({"base_url": "http://host/v1?key=1"}, "write it like"),
        ({"base_url": "http://ho st/v1"}, "write it like"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"modell": "x"}, "did you mean model"),
    ],
)
def test_settings_that_cannot_work(settings, said):
    with pytest.raises(ValueError, match=said) as told:
        convert(settings, Endpoint, "recipe.toml")
    assert "pass@" not in str(told.value)


def test_no_address_is_told():
    with pytest.raises(ValueError, match="base_url and model are not set"):
        Client(Endpoint()).ask(ask())


def test_cost_is_counted_by_what_the_server_says():
    endpoint = Endpoint(base_url="http://host/v1", model="m", prompt_price=2.0, completion_price=6.0)
    answers = [
        Answer("答", "stop", 1000, 500, "m-1"),
        Answer("答", "length", 500, 250, "m-2"),
        Answer("答", "stop"),
        Answer("", "prompt_too_long"),
    ]
    assert usage(endpoint, answers) == {
        "model": "m", "served_models": ["m-1", "m-2"], "num_requests": 4, "num_without_usage": 1, "prompt_tokens": 1500,
        "completion_tokens": 750, "cost": 0.0075,
    }  # fmt: skip
