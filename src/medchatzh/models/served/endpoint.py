"""The client of an OpenAI-compatible server: many requests at once, within limits, again after trouble. `wire` says what they hold.

Built on the standard library: urllib knows TLS and the environment's proxies, threads wait for sockets as well as an event loop does, and a
new connection for each request is nothing beside seconds of decoding. So judging and generating over HTTP need no package beyond ours.
"""

from __future__ import annotations

import os
import random
import ssl
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

from medchatzh import __version__
from medchatzh.models.served.wire import Answer, BrokenOff, Complaint, Endpoint, Request, decode, encode

_BACKOFF_S, _MAX_BACKOFF_S = 1.0, 60.0
_WINDOW_S = 60.0


class Charge(msgspec.Struct):
    """What a request takes from the limits, and when it was sent."""

    at: float
    tokens: int


class Limits:
    """Requests and tokens a minute: no 60 s see more. (A request that alone needs more tokens goes when no other has gone for 60 s.)"""

    def __init__(self, requests_per_minute: int, tokens_per_minute: int) -> None:
        self._requests, self._tokens = requests_per_minute, tokens_per_minute
        self._charges: deque[Charge] = deque()
        self._paused_until = float("-inf")

    def pause(self, until: float) -> None:
        """The server asked for quiet: nothing starts before."""
        self._paused_until = max(self._paused_until, until)

    def start(self, now: float, tokens: int) -> Charge | float:
        """Take a place for a request of so many tokens; where there is none, the seconds after which to ask again."""
        while self._charges and self._charges[0].at + _WINDOW_S <= now:
            self._charges.popleft()
        free_at = self._paused_until
        if self._requests and len(self._charges) >= self._requests:
            free_at = max(free_at, self._charges[-self._requests].at + _WINDOW_S)
        if self._tokens:
            excess = sum(charge.tokens for charge in self._charges) + tokens - self._tokens
            for charge in self._charges:
                if excess <= 0:
                    break
                excess -= charge.tokens
                free_at = max(free_at, charge.at + _WINDOW_S)
        if free_at > now:
            return free_at - now
        self._charges.append(Charge(now, tokens))
        return self._charges[-1]


class _Trouble(Exception):
    """What another attempt may mend. `retry_after_s`: the server said when."""

    def __init__(self, what: str, retry_after_s: float | None = None) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s


class _Stopped(Exception):
    """Another request has failed for good, or the user has interrupted."""


class Client:
    """Asks an endpoint; threads may share one. `now` and `sleep` are its clock, in seconds. It is spent once a request failed for good."""

    def __init__(
        self, endpoint: Endpoint, *, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], Any] | None = None
    ) -> None:
        """ValueError where the environment lacks the key."""
        self.endpoint = endpoint
        self._key = _key(endpoint.api_key_env)
        self._opener = _opener(endpoint.base_url)
        self._limits = Limits(endpoint.requests_per_minute, endpoint.tokens_per_minute)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._told: set[str] = set()
        self._now, self._sleep = now, sleep or self._stopped.wait

    def ask_all(self, requests: Sequence[Request], keep: Callable[[int, Answer], None]) -> None:
        """Ask for all; hand each answer with the number of its request to `keep`, one at a time, before another request takes its place.

        Where one fails for good no new one is sent, those under way are still answered, and then its ValueError is raised.
        """
        jobs = enumerate(requests)
        failures: list[Exception] = []
        keeping = threading.Lock()

        def work() -> None:
            try:
                while not self._stopped.is_set():
                    with self._lock:
                        number, request = next(jobs, (-1, None))
                    if request is None:
                        return
                    answer = self.ask(request)
                    with keeping:
                        keep(number, answer)
            except _Stopped:
                pass
            except Exception as error:
                self._stopped.set()
                failures.append(error)

        # Daemons, so that Ctrl-C does not wait for answers under way.
        workers = [threading.Thread(target=work, daemon=True) for _ in range(min(self.endpoint.max_concurrency, len(requests)))]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        except BaseException:
            self._stopped.set()
            raise
        if failures:
            raise failures[0]

    def ask(self, request: Request) -> Answer:
        """One answer, after as many attempts as the settings allow. ValueError says what went wrong, where, and what to do."""
        url, body = encode(self.endpoint, request)
        deadline = float("inf")
        num_attempts = num_failures = 0
        while True:
            charge = self._turn(request.estimated_tokens)
            if not num_attempts:  # that the first turn was waited for is our own doing
                deadline = self._now() + self.endpoint.deadline_s
            num_attempts += 1
            try:
                answer = self._post(url, body, max(0.1, min(self.endpoint.timeout_s, deadline - self._now())))
            except _Trouble as trouble:
                # A wait that the server asks for is no failure: at a low limit, many requests under way have to wait more than once.
                num_failures += not trouble.retry_after_s
                wait = trouble.retry_after_s or min(_MAX_BACKOFF_S, _BACKOFF_S * 2 ** (num_failures - 1)) * random.uniform(0.5, 1)
                if num_failures > self.endpoint.max_retries or self._now() + wait >= deadline:
                    raise ValueError(_gave_up(url, trouble, num_attempts)) from None
                self._tell(url, str(trouble))
                if trouble.retry_after_s:  # what the server cannot take now it takes from no other request either
                    with self._lock:
                        self._limits.pause(self._now() + wait)
                else:
                    self._wait(wait)
            else:
                if answer.prompt_tokens is not None:
                    charge.tokens = answer.prompt_tokens + (answer.completion_tokens or 0)
                return answer

    def _turn(self, tokens: int) -> Charge:
        while True:
            with self._lock:
                started = self._limits.start(self._now(), tokens)
            if isinstance(started, Charge):
                return started
            self._wait(started)

    def _wait(self, seconds: float) -> None:
        self._sleep(seconds)
        if self._stopped.is_set():
            raise _Stopped

    def _post(self, url: str, body: bytes, timeout_s: float) -> Answer:
        headers = {"Content-Type": "application/json", "User-Agent": f"medchatzh/{__version__}"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            with self._opener.open(urllib.request.Request(url, body, headers), timeout=timeout_s) as response:
                data = _read(response, timeout_s)
            said = decode(response.status, data)
        except BrokenOff as error:
            raise _Trouble(self._scrubbed(str(error))) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                remedy = "set SSL_CERT_FILE to a file with the authority's certificate"
                raise ValueError(f"{url}: its certificate is not trusted ({reason.verify_message}): {remedy}") from None
            what = f"no answer within {timeout_s:.0f} s" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__
            raise _Trouble(self._scrubbed(what)) from None
        except ValueError as error:
            raise ValueError(f"{url}: {self._scrubbed(str(error))}") from None
        if isinstance(said, Answer):
            return said
        what = f"HTTP {said.status} ({self._scrubbed(said.message)})"
        if said.is_passing:
            raise _Trouble(what, _retry_after_s(response.headers.get("Retry-After", "")))
        raise ValueError(f"{url}: {what}: {self._remedy(said, response.headers.get('Location', 'the new address'))}")

    def _remedy(self, complaint: Complaint, location: str) -> str:
        variable, model = self.endpoint.api_key_env, self.endpoint.model
        if complaint.no_credit:
            return "the account has no credit left: add some and run the same command again, which goes on from here"
        if complaint.status in (401, 403):
            return f"set {variable} to a key that may use {model}" if variable else "name the environment variable of a key in api_key_env"
        if complaint.status == 404:
            return f"see that base_url is right (most end in /v1) and that the server has a model {model!r}"
        if 300 <= complaint.status < 400:
            return f"the server has moved: set base_url to fit {location}"
        return "the server does not take such a request: look at the sampling, and whether endpoint.server names its kind"

    def _tell(self, url: str, what: str) -> None:
        """Each kind of trouble once: to wait in silence looks like hanging."""
        from tqdm import tqdm

        with self._lock:
            known = what in self._told
            self._told.add(what)
        if not known:
            tqdm.write(f"medchatzh: {url}: {what}; trying again", file=sys.stderr)

    def _scrubbed(self, message: str) -> str:
        """One short line, without the key: some servers repeat it in their complaints."""
        line = " ".join(message.split())
        if self._key:
            line = line.replace(self._key, "***")
        return line if len(line) <= 300 else line[:300] + "…"


def _gave_up(url: str, trouble: _Trouble, num_attempts: int) -> str:
    asked = f", and asks to wait for {trouble.retry_after_s:.0f} s" if trouble.retry_after_s else ""
    return (
        f"{url}: {trouble}{asked}; gave up after {num_attempts} attempts (max_retries, deadline_s): see that base_url is right and the"
        " server well, or lower max_concurrency and the limits per minute, and run the same command again, which goes on from here"
    )


def _key(variable: str) -> str:
    """The key in an environment variable, '' where none is named."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"api_key_env: the environment variable {variable} is not set: export {variable}=…, or leave api_key_env empty")
    if not key.isascii() or not key.isprintable():  # http.client would refuse it too, and show it
        raise ValueError(f"api_key_env: {variable} holds characters that no key has; copy it again")
    return key


def _opener(base_url: str) -> urllib.request.OpenerDirector:
    """Gives every response back, whatever its status, and follows no redirection: the key must not go to another server."""
    url = urlsplit(base_url)
    here = url.hostname == "localhost" or _is_loopback(url.hostname or "")
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.ProxyHandler({} if here else None))  # a proxy reaches its own localhost, not ours
    opener.add_handler(urllib.request.HTTPHandler())
    if url.scheme == "https":  # one context for all: to read the authorities takes tens of milliseconds
        opener.add_handler(urllib.request.HTTPSHandler(context=ssl.create_default_context()))
    return opener


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _read(response: HTTPResponse, timeout_s: float) -> bytes:
    """The whole body. The timeout of a socket is for one read, and a server may go on for ever a byte at a time."""
    until = time.monotonic() + timeout_s
    parts = []
    while part := response.read1(1 << 16):
        parts.append(part)
        if time.monotonic() > until:
            raise TimeoutError
    return b"".join(parts)


def _retry_after_s(header: str) -> float | None:
    """Seconds or a date (RFC 9110, 10.2.3); None where it is neither."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):  # no date, or one without a zone
        return None
