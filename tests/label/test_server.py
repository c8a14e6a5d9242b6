"""The page's server: what it tells, and whom it refuses."""

import http.client
import json
import socket
import threading

import pytest

from medchatzh.label.server import Server, serve
from medchatzh.label.session import Session
from medchatzh.label.verdicts import Journal, path_of


@pytest.fixture
def server(folder):
    session = Session(folder, "wang")
    made = Server(session)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    session.close()


@pytest.fixture
def ask(server):
    """Sends a request as the page would, but for what is given; (status, text)."""

    def ask(method: str, name: str, body=None, *, token: str | None = None, **headers: str | None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
        own = {"Host": f"127.0.0.1:{server.server_port}"}
        if method == "POST":
            own |= {"Origin": f"http://{own['Host']}", "Content-Type": "application/json"}
        sent = {key: value for key, value in (own | {key.replace("_", "-"): value for key, value in headers.items()}).items() if value}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        path = f"/{server.token if token is None else token}/{name}"
        connection.putrequest(method, path, skip_host=True)
        for key, value in sent.items():
            connection.putheader(key, value)
        if content is not None and "Content-Length" not in sent:
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    return ask


def said(at: int = 0, version: int = 0, **more):
    return {"at": at, "version": version, "places": [1, 2, 3, 4]} | more


def test_a_verdict_is_saved_and_the_next_task_comes(server, ask):
    status, text = ask("GET", "state")
    state = json.loads(text)
    assert status == 200 and (state["at"], state["done"], state["total"], len(state["answers"])) == (0, 0, 7, 4)
    status, text = ask("POST", "verdict", said(places=[2, 1, 1, 3], note="好", seconds=2.5))
    assert status == 200 and json.loads(text)["at"] == 1
    task = server.session.queue[0]
    assert [server.session.verdict(task).ranks[number] for number in server.session.shown(task)] == [3, 1, 1, 4]
    again = json.loads(ask("GET", "state?at=0")[1])
    assert again["verdict"] == {"places": [3, 1, 1, 4], "skip": "", "note": "好"} and again["version"] == 1


def test_nothing_tells_who_wrote_an_answer(server, ask):
    told = "".join(ask("GET", f"state?at={at}")[1] for at in range(7))
    assert not any(name in told for name in ("alpha", "beta", "gamma", "record", "clinic", "sources", "candidates"))


def test_the_address_holds_a_secret(server, ask):
    for token in ("", "x", server.token[:-1], server.token + "x", "é"):
        path = token if token.isascii() else "%C3%A9"
        assert ask("GET", "state", token=path)[0] == 404
        assert ask("POST", "verdict", said(), token=path)[0] == 404
    assert ask("GET", "")[0] == 200 and ask("GET", "tasks.jsonl")[0] == 404 and ask("GET", "../server.py")[0] == 404
    assert len(server.token) > 20 and server.session.num_done == 0


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", None, "localhost.evil.example:80", "0.0.0.0:80"])
def test_names_that_were_made_to_lead_here(ask, host):
    assert ask("GET", "state", Host=host)[0] == 403
    assert ask("POST", "verdict", said(), Host=host, Origin=f"http://{host}")[0] == 403


def test_a_tunnel_has_another_port(ask):
    assert ask("GET", "state", Host="localhost:9000")[0] == 200
    assert ask("POST", "verdict", said(), Host="localhost:9000", Origin="http://localhost:9000")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None, "https://127.0.0.1", "http://127.0.0.1:1"])
def test_posts_of_other_sites(server, ask, origin):
    assert ask("POST", "verdict", said(), Origin=origin)[0] == 403 and server.session.num_done == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_what_a_form_could_send(server, ask, kind):
    assert ask("POST", "verdict", said(), Content_Type=kind)[0] == 415 and server.session.num_done == 0


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"\xff", b'{"at":0,"version":0,"note":"\\ud800"}'),
        *(said(at=7), said(at=-1), said(places=[1]), said(places=["1"] * 4), said(places=[])),
        *(said(skip="x"), said(skip="all_wrong"), said(places=[], skip="other")),
        *(said(more=1), said(note=7), said(note="长" * 2001)),
    ],
)
def test_what_is_no_verdict(server, ask, body):
    status, text = ask("POST", "verdict", body)
    assert status == 400 and text and server.session.num_done == 0


def test_a_long_body_is_not_even_read(ask):
    assert ask("POST", "verdict", said(note="x" * 70_000))[0] == 413
    assert ask("POST", "verdict", Content_Length="-1")[0] == 413 and ask("POST", "verdict", Content_Length=None)[0] == 413


def test_two_tabs_do_not_overwrite_each_other(server, ask):
    assert ask("POST", "verdict", said())[0] == 200
    status, text = ask("POST", "verdict", said(places=[4, 3, 2, 1]))
    assert status == 409 and "nothing was overwritten" in text
    assert server.session.verdict(server.session.queue[0]).ranks[server.session.shown(server.session.queue[0])[0]] == 1
    assert ask("POST", "verdict", said(version=1, places=[4, 3, 2, 1]))[0] == 200, "but who has seen it may change it"


def test_many_at_once(ask, folder):
    """The same verdict from 20 threads: one is taken."""
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(ask("POST", "verdict", said())[0])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [409] * 19 and len(path_of(folder, "wang").read_bytes().splitlines()) == 1


def test_idle_connections_do_not_block(server, ask):
    idle = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(5)]
    assert ask("GET", "state")[0] == 200
    for one in idle:
        one.close()


def test_a_closed_tab_is_no_error_but_ours_are_told(server, capsys):
    for error, told in ((BrokenPipeError(), False), (ConnectionResetError(), False), (KeyError("ours"), True)):
        try:
            raise error
        except Exception:
            server.handle_error(None, ("127.0.0.1", 1))
        assert ("KeyError" in capsys.readouterr().err) == told


def test_a_full_disk_is_told(ask, server, monkeypatch):
    def full(self, verdict):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    status, text = ask("POST", "verdict", said())
    assert status == 507 and "not saved: No space left on device" in text
    monkeypatch.undo()
    assert ask("POST", "verdict", said())[0] == 200


def test_a_port_that_is_taken(server, folder, capsys):
    with pytest.raises(ValueError, match=f"port {server.server_port} of 127.0.0.1: Address already in use; give another"):
        serve(folder, "李医生", server.server_port)
    Session(folder, "李医生").close()


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_nothing_is_kept_by_the_browser_and_nothing_foreign_loaded(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    connection.request("GET", f"/{server.token}/")
    answer = connection.getresponse()
    policy = answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store" and "default-src 'none'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy and answer.headers["X-Content-Type-Options"] == "nosniff"
    connection.close()


def test_other_methods(ask):
    assert ask("PUT", "verdict", said())[0] == 501 and ask("OPTIONS", "verdict")[0] == 501


def test_all_done(server, ask):
    for at in range(7):
        status, text = ask("POST", "verdict", said(at))
        assert status == 200
    state = json.loads(text)
    assert (state["at"], state["done"]) == (None, 7) and "answers" not in state
    assert json.loads(ask("GET", "state?at=99")[1])["at"] == 6
