"""A real OpenAI-compatible HTTP server for tests, in a thread of this process, with faults on demand."""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def reply(prompt: str) -> str:
    """What the server answers unless told otherwise: always the same to the same prompt."""
    return f"答{hashlib.sha256(prompt.encode()).hexdigest()[:8]}：多休息。"


class Fault:
    """What goes wrong: `Fault(status=…)`, or `kind` drop, slow, drip, malformed, cut (too few bytes), cut_chunked."""

    def __init__(self, kind="status", *, status=500, headers=(), body=None, seconds=0.0):
        self.kind, self.status, self.headers, self.body, self.seconds = kind, status, dict(headers), body, seconds


class Server:
    """`answer` makes the text (or a dict laid over the choice); `fault` gets (prompt, how often it was asked) and may give a Fault."""

    def __init__(self, answer=reply, fault=None, seconds=0.0, key="", usage=True):
        self.answer, self.fault, self.seconds, self.key, self.usage = answer, fault, seconds, key, usage
        self.asked = []
        """(path, body) of each request, as they came."""
        self.times = []
        """When they came, by time.monotonic."""
        self.most_at_once = 0
        self._lock, self._under_way = threading.Lock(), 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                server.handle(self)

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass  # clients of these tests hang up, and are killed

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    @property
    def prompts(self):
        return [text(body) for _, body in self.asked]

    def handle(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        prompt = text(body)
        with self._lock:
            self.asked.append((handler.path, body))
            self.times.append(time.monotonic())
            times = self.prompts.count(prompt)
        self.respond(handler, body, prompt, self.fault(prompt, times) if self.fault else None)

    def respond(self, handler, body, prompt, fault):
        authorization = handler.headers.get("Authorization", "")
        if self.key and authorization != f"Bearer {self.key}":
            error = {
                "error": {"message": f"Incorrect API key provided: {authorization}", "type": "invalid_request_error", "code": "invalid"}
            }
            return send(handler, 401, error)
        if handler.path not in ("/v1/chat/completions", "/v1/completions"):
            return send(handler, 404, {"detail": "Not Found"})
        with self._lock:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        time.sleep(self.seconds)
        with self._lock:
            self._under_way -= 1
        data = json.dumps(self.completion(handler.path, body, prompt), ensure_ascii=False).encode()
        if fault is None:
            return send(handler, 200, data)
        if fault.kind == "status":
            return send(handler, fault.status, fault.body or {"error": {"message": "trouble"}}, fault.headers)
        if fault.kind == "malformed":
            return send(handler, 200, b'{"choices": [')
        if fault.kind == "slow":
            time.sleep(fault.seconds)
            return send(handler, 200, data)
        handler.close_connection = True
        if fault.kind == "drop":
            return None
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        if fault.kind == "cut_chunked":
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data[: len(data) // 2])
            return None
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if fault.kind == "cut":
            handler.wfile.write(data[: len(data) // 2])
        else:
            for byte in data:  # drip
                handler.wfile.write(bytes([byte]))
                time.sleep(fault.seconds)
        return None

    def completion(self, path, body, prompt):
        given = self.answer(prompt)
        choice = {"index": 0, "finish_reason": "stop"} | (given if isinstance(given, dict) else {})
        if not isinstance(given, dict):
            choice |= {"message": {"role": "assistant", "content": given}} if "chat" in path else {"text": given}
        made = {"id": "1", "object": "x", "model": body["model"] + "-0125", "choices": [choice]}
        if self.usage:
            used = len(prompt), len(str(given))
            made["usage"] = {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
        return made


def text(body):
    return body["prompt"] if "prompt" in body else body["messages"][-1]["content"]


def send(handler, status, body, headers=()):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in dict(headers).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
