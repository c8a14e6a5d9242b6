"""Ranking in a browser: a page for one labeller, served to this machine alone.

What could be in the way of that is refused: another machine (bound to 127.0.0.1), another user of this one (the address holds a secret), a
site whose name was made to lead here (Host must be this machine), and a form or script of another site (Origin must be ours). Texts of
others are never HTML: the page gets them as JSON and puts them in as text, under a policy that runs and loads nothing but its own files.
"""

from __future__ import annotations

import errno
import secrets
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from medchatzh.label.session import LETTERS, Session
from medchatzh.label.verdicts import SKIPS, Skip

HOST = "127.0.0.1"
_LOOPBACK = ("127.0.0.1", "localhost")
_FILES = {
    "": ("medchatzh.label", "page.html", "text/html"),
    "page.js": ("medchatzh.label", "page.js", "text/javascript"),
    "page.css": ("medchatzh.label", "page.css", "text/css"),
    "house.css": ("medchatzh.report", "page.css", "text/css"),
}
"""Path below the secret → package, file, type."""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind} 'self'" for kind in ("script-src", "style-src", "connect-src")),
        "img-src data:",
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors")),
    )
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_MAX_BODY_BYTES = 1 << 16
_PATIENCE_S = 30


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verdict as the page sends it. `version` is that of the state which it answers; `places` by the answers as shown."""

    at: int
    version: int
    places: list[int] = []
    skip: Skip = ""
    note: str = ""
    seconds: float = 0.0


class Refused(Exception):
    """A request that gets no answer but a status and a reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Server(ThreadingHTTPServer):
    """The page of a session. Threads, since a browser opens connections that it does not use; one request at a time gets the session."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, session: Session, port: int = 0) -> None:
        """`port` 0 takes a free one. ValueError where it is taken."""
        self.session = session
        self.token = secrets.token_urlsafe(16)
        self.lock = threading.Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise ValueError(f"port {port} of {HOST}: {error.strerror}; give another: --port N, or none for a free one") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A tab that was closed is no error; anything else is told on the terminal."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = _PATIENCE_S
    server_version = "medchatzh"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the terminal shows the address, and requests hold its secret."""

    def _answer(self, make: Callable[[str], tuple[str, bytes]]) -> None:
        try:
            kind, body = make(self._name())
            status = HTTPStatus.OK
        except Refused as refused:
            status, kind, body = refused.status, "text/plain", str(refused).encode()
        except ValueError as error:
            status, kind, body = HTTPStatus.BAD_REQUEST, "text/plain", str(error).encode()
        except OSError as error:  # of the journal: the labeller must know that nothing was kept
            told = f"没有保存 / not saved: {error.strerror}: {error.filename or ''}"
            status, kind, body = HTTPStatus.INSUFFICIENT_STORAGE, "text/plain", told.encode()
        self.send_response(status)
        for name, value in (_HEADERS | {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _name(self) -> str:
        """What is asked for below the secret."""
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in _LOOPBACK:
            raise Refused(HTTPStatus.FORBIDDEN, "this page answers to 127.0.0.1 and localhost alone")
        _, token, name = (urlsplit(self.path).path + "//").split("/", 2)
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(HTTPStatus.NOT_FOUND, "no such page; open the address that the terminal shows, to its end")
        return name.removesuffix("//")

    def _get(self, name: str) -> tuple[str, bytes]:
        if name == "state":
            asked = parse_qs(urlsplit(self.path).query).get("at", [""])[0]
            with self.server.lock:
                return "application/json", msgspec.json.encode(state(self.server.session, int(asked) if asked.isdecimal() else None))
        if name not in _FILES:
            raise Refused(HTTPStatus.NOT_FOUND, "no such page")
        package, file, kind = _FILES[name]
        return kind, (resources.files(package) / file).read_bytes()

    def _post(self, name: str) -> tuple[str, bytes]:
        if self.headers.get("Origin") != f"http://{self.headers.get('Host')}":
            raise Refused(HTTPStatus.FORBIDDEN, "verdicts come from this page alone")
        if name != "verdict":
            raise Refused(HTTPStatus.NOT_FOUND, "no such page")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a verdict is JSON")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"内容过长 / at most {_MAX_BODY_BYTES:,} bytes")
        try:
            said = msgspec.json.decode(self.rfile.read(int(length)), type=Said)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"not a verdict: {error}") from None
        with self.server.lock:
            session = self.server.session
            if not 0 <= said.at < len(session.queue):
                raise ValueError(f"no task {said.at}")
            task = session.queue[said.at]
            if said.version != session.version(task):
                raise Refused(HTTPStatus.CONFLICT, "此题已在别处标注，没有覆盖 / ranked elsewhere meanwhile; nothing was overwritten")
            session.save(task, said.places, skip=said.skip, note=said.note, seconds=said.seconds)
            return "application/json", msgspec.json.encode(state(session, session.next(said.at)))


def state(session: Session, at: int | None = None) -> dict[str, Any]:
    """All that the page shows: the task at a position (else the first without a verdict), and nothing of who wrote an answer."""
    found: dict[str, Any] = {
        "labeller": session.labeller,
        "total": len(session.queue),
        "done": session.num_done,
        "skips": SKIPS,
        "letters": LETTERS,
        "at": None,
    }
    at = session.next() if at is None else min(at, len(session.queue) - 1)
    if at is None or at < 0:
        return found
    task = session.queue[at]
    shown, verdict = session.shown(task), session.verdict(task)
    said = None
    if verdict:
        places = [verdict.ranks[number] for number in shown] if verdict.ranks else []
        said = {"places": places, "skip": verdict.skip, "note": verdict.note}
    return found | {
        "at": at,
        "version": session.version(task),
        "category": task.category,
        "prompt": task.prompt,
        "answers": [task.candidates[number].text for number in shown],
        "verdict": said,
    }


def serve(folder: Path, labeller: str, port: int = 0) -> None:
    """Serve the page until Ctrl-C."""
    with closing(Session(folder, labeller)) as session, Server(session, port) as server:
        try:
            print(f"{labeller} · {session.num_done}/{len(session.queue)}\n{server.url}")
            print(
                "在本机浏览器中打开；按 Ctrl-C 结束，每次提交都已保存。 / Open it on this machine; Ctrl-C ends, every verdict is saved.",
                flush=True,
            )
            server.serve_forever()
        except KeyboardInterrupt:
            with server.lock:  # a verdict on its way is kept
                print(f"\n{labeller} · {session.num_done}/{len(session.queue)}")
