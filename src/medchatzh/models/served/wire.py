"""What goes to an OpenAI-compatible server and what comes back: settings, requests, answers, refusals. Opens no connection.

Servers agree on the routes and the standard fields. They differ in the names of other parameters, in the reasons to finish, and in how they
complain; each such difference stands in a table here, from vLLM's documentation and the code of SGLang (protocol.py) and llama.cpp
(server.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from medchatzh.models.decoding.engine import TOO_LONG
from medchatzh.recipe import Settings
from medchatzh.records import Turn

_STANDARD = {"max_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p", "stop": "stop"}
_MORE = {name: name for name in ("min_tokens", "top_k", "repetition_penalty", "ignore_eos")}
_PARAMETERS = {
    "compatible": _STANDARD,
    "openai": _STANDARD,
    "vllm": _STANDARD | _MORE,
    "sglang": _STANDARD | _MORE,
    "llama.cpp": _STANDARD | {"top_k": "top_k", "repetition_penalty": "repeat_penalty", "ignore_eos": "ignore_eos"},
}
"""Server → our name of a parameter → its own. llama.cpp, for one, passes over names that it does not know without a word, and would decode
otherwise than a table says; so what is not listed is refused."""

_FINISHES = {
    "stop": "stop",
    "eos_token": "stop",  # text-generation-inference
    "stop_sequence": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "sensitive": "content_filter",  # Zhipu
}
_BROKEN_OFF = {None, "abort", "error", "network_error", "insufficient_system_resource"}
"""Reasons with which vLLM, SGLang, Zhipu and DeepSeek hand out half an answer when they are in trouble."""
_FILTERED = {"content_filter", "data_inspection_failed", "DataInspectionFailed"}
"""Error codes of Azure and DashScope where their filter stops a prompt or an answer. One such question must not end a run."""
_TOO_LONG = {"context_length_exceeded", "exceed_context_size_error"}
_NO_CREDIT = {"insufficient_quota", "credit_balance_exhausted"}

# Where nothing bounds an answer, the tokens that it is taken to need until the server says how many they were.
_ANSWER_TOKENS = 512


class Sampling(Settings, frozen=True, kw_only=True):
    """What is asked of the decoder. What is not set is not sent: the server decides, as for the baseline of GPT-3.5 (API defaults)."""

    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    """0 is greedy decoding."""
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    ignore_eos: bool | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens: {self.max_tokens}: give at least 1, or leave it out")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"temperature: {self.temperature:g}: give 0 (greedy) or more")

    def given(self) -> dict[str, Any]:
        """What is set, by name."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None and value != ()}


class Endpoint(Settings, frozen=True, kw_only=True):
    """A model behind a server, and how fast it may be asked."""

    base_url: str = ""
    """Up to and with the version: `http://localhost:8000/v1`, `https://api.openai.com/v1`."""
    model: str = ""
    """As the server names it. A name that moves (`gpt-3.5-turbo`) is another model next year: prefer a dated one."""
    server: Literal["compatible", "openai", "vllm", "sglang", "llama.cpp"] = "compatible"
    """Whose parameters it understands. `compatible`: only those that all know."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key. The key itself is never written anywhere."""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    """More fields of the request as the server defines them, `{chat_template_kwargs = {enable_thinking = false}}` say."""
    max_concurrency: int = 8
    """Requests under way at once."""
    requests_per_minute: int = 0
    """0: no limit."""
    tokens_per_minute: int = 0
    """Of prompt and answer together, estimated before a request and corrected after it. 0: no limit."""
    timeout_s: float = 120.0
    """Of one attempt. A whole answer must fit."""
    max_retries: int = 6
    """After server errors, lost connections and refusals that say no time to wait. The waits double from 1 s: six are about a minute."""
    deadline_s: float = 900.0
    """Of one request with all its attempts and waits."""
    prompt_price: float = 0.0
    """For a million tokens, in the currency of your choice."""
    completion_price: float = 0.0
    """For a million tokens."""

    def __post_init__(self) -> None:
        try:
            url = urlsplit(self.base_url)
            port_is_right = url.port is None or url.port > 0
        except ValueError as error:
            raise ValueError(f"base_url: {self.base_url!r}: {error}") from None
        if url.username is not None or url.password is not None:
            raise ValueError("base_url: holds a user or password, which would stand in every manifest; name a variable in api_key_env")
        right = url.scheme in ("http", "https") and url.hostname and port_is_right and not url.query and not url.fragment
        if self.base_url and not (right and re.fullmatch("[!-~]+", self.base_url)):
            raise ValueError(f"base_url: {self.base_url!r}: write it like http://localhost:8000/v1")
        if self.max_concurrency < 1 or self.max_retries < 0 or self.requests_per_minute < 0 or self.tokens_per_minute < 0:
            raise ValueError("max_concurrency must be at least 1; max_retries and the limits per minute must not be negative")
        if self.timeout_s <= 0 or self.deadline_s <= 0 or self.prompt_price < 0 or self.completion_price < 0:
            raise ValueError("timeout_s and deadline_s must be positive, prices not negative")


class Request(msgspec.Struct, frozen=True):
    """A conversation goes to `/chat/completions`; a finished prompt, for models with a template of their own, to `/completions`."""

    prompt: str | tuple[Turn, ...]
    sampling: Sampling
    seed: int = 0

    @property
    def estimated_tokens(self) -> int:
        """Of prompt and answer. A Chinese character is about a token."""
        text = self.prompt if isinstance(self.prompt, str) else "".join(turn.content for turn in self.prompt)
        return len(text) + (self.sampling.max_tokens or _ANSWER_TOKENS)


class Answer(msgspec.Struct, frozen=True):
    """`text` as the server gave it. Tokens are None where the server does not count them."""

    text: str
    finish: str
    """`stop`, `length`, `content_filter`, `prompt_too_long`."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str = ""
    """What the server says has answered, which may be more exact than what was asked for."""


class Complaint(NamedTuple):
    """An answer of the server that is none of the model."""

    status: int
    codes: frozenset[str]
    """`code` and `type` of the error, where there are any."""
    message: str

    @property
    def no_credit(self) -> bool:
        return self.status == 402 or bool(self.codes & _NO_CREDIT)

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later. The statuses are those that OpenAI's own client tries again."""
        return (self.status in (408, 409, 429) or self.status >= 500) and not self.no_credit


class BrokenOff(Exception):
    """The server handed out half an answer, or something that is none: another attempt may mend it."""


def encode(endpoint: Endpoint, request: Request) -> tuple[str, bytes]:
    """(url, body) of a request. Between them they hold all that the answer may depend on, and no key.

    ValueError where the server cannot be asked for such a decoding.
    """
    if not endpoint.base_url or not endpoint.model:
        raise ValueError("endpoint: base_url and model are not set: name the server, and the model as it knows it")
    known = _PARAMETERS[endpoint.server]
    chat = not isinstance(request.prompt, str)
    body: dict[str, Any] = {"model": endpoint.model, "messages" if chat else "prompt": request.prompt, "seed": request.seed}
    for name, value in request.sampling.given().items():
        if name not in known:
            able = ", ".join(server for server, names in _PARAMETERS.items() if name in names)
            raise ValueError(
                f"sampling.{name}: not known to a server of kind {endpoint.server!r}: leave it out, or set endpoint.server ({able})"
            )
        body[known[name]] = value
    if endpoint.server == "openai" and chat and "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")  # newer models refuse the old name, older ones take both
    if endpoint.server == "llama.cpp" and "repeat_penalty" in body:
        body["repeat_last_n"] = -1  # of the whole context, as in transformers; llama.cpp's default is the last 64 tokens
    if not chat and "max_tokens" not in body:
        raise ValueError("sampling.max_tokens: set it: without it /completions cuts every answer after 16 tokens")
    url = endpoint.base_url.rstrip("/") + ("/chat/completions" if chat else "/completions")
    return url, msgspec.json.encode(body | endpoint.extra, order="deterministic")


def decode(status: int, data: bytes) -> Answer | Complaint:
    """What the server said. An empty answer where it is the question that it refuses, as too long or unseemly. BrokenOff, see there."""
    if status == 200:
        return _answer(data)
    complaint = _complaint(status, data)
    about_length = status in (400, 413, 422, 500) and re.search("context (length|size|window)", complaint.message, re.IGNORECASE)
    if complaint.codes & _TOO_LONG or about_length:
        return Answer("", TOO_LONG)
    if status == 400 and complaint.codes & _FILTERED:
        return Answer("", "content_filter")
    return complaint


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: _Message | None = None
    text: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None
    model: str | None = None


def _answer(data: bytes) -> Answer:
    try:
        reply = msgspec.json.decode(data, type=_Reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenOff(f"no answer in the form of OpenAI's API ({error})") from None
    choice = next(iter(reply.choices), _Choice())
    if choice.finish_reason in _BROKEN_OFF:
        raise BrokenOff(f"a broken-off answer (finish_reason {choice.finish_reason!r})")
    if choice.finish_reason not in _FINISHES:
        raise ValueError(f"finish_reason {choice.finish_reason!r}: nothing that an answer in plain text ends with; ask for no tools")
    message = choice.message or _Message()
    used = reply.usage or _Usage()
    return Answer(
        text=choice.text or message.content or message.refusal or "",
        finish=_FINISHES[choice.finish_reason],
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        model=reply.model or "",
    )


def _complaint(status: int, data: bytes) -> Complaint:
    """OpenAI nests the error, SGLang does not, FastAPI calls it `detail`, a gateway in between sends HTML."""
    try:
        said: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = re.sub(r"<[^>]*>", " ", data.decode(errors="replace"))
    for name in ("error", "detail"):
        if isinstance(said, dict) and said.get(name):
            said = said[name]
    if not isinstance(said, dict):
        return Complaint(status, frozenset(), str(said))
    codes = frozenset(str(said[name]) for name in ("code", "type") if said.get(name))
    return Complaint(status, codes, str(said.get("message") or said))


def usage(endpoint: Endpoint, answers: Iterable[Answer]) -> dict[str, Any]:
    """What answers took, by the tokens that the server counted and the prices of the settings: the same whether asked now or found.

    Attempts that failed are not in it.
    """
    counted = list(answers)
    prompt_tokens = sum(answer.prompt_tokens or 0 for answer in counted)
    completion_tokens = sum(answer.completion_tokens or 0 for answer in counted)
    return {
        "model": endpoint.model,
        "served_models": sorted({answer.model for answer in counted if answer.model}),
        "num_requests": len(counted),
        "num_without_usage": sum(answer.prompt_tokens is None for answer in counted if answer.finish in ("stop", "length")),
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "cost": round((prompt_tokens * endpoint.prompt_price + completion_tokens * endpoint.completion_price) / 1e6, 6),
    }
