"""The demonstration upstream: three vendors on one loopback port, so that one can see a replay without any account.

    python -m understudy.demo.upstream --port 0 --parent PID

Prints its port as one line when it is ready, and ends with SIGTERM or when the parent process is gone. Which
behaviour a request meets is decided by the credential it carries: see ``Role``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import override
from urllib.parse import unquote, urlsplit

from understudy.demo.answers import (
    Answers,
    ChatCompletions,
    CountTokens,
    Failure,
    GenerateContent,
    Json,
    Messages,
    Responses,
    text_of,
)
from understudy.demo.roles import Role

PACE = 0.04
"""Seconds between two events of a stream: slow enough to be seen live."""
MADE_UP = ("x-demonstration", "made up by understudy")
"""A header of every reply, for what has no text to say so in: errors, token counts."""
MAX_BODY = 16 << 20
PARENT_POLL = 1.0

ENDPOINTS: tuple[tuple[re.Pattern[str], Answers], ...] = (
    (re.compile(r"/v1/chat/completions"), ChatCompletions()),
    (re.compile(r"/v1/responses"), Responses()),
    (re.compile(r"/v1/messages"), Messages()),
    (re.compile(r"/v1/messages/count_tokens"), CountTokens()),
    (
        re.compile(r"/v1beta/models/(?P<model>[^/:]+):(?P<action>generateContent|streamGenerateContent)"),
        GenerateContent(),
    ),
)


class BadRequestError(Exception):
    """The request cannot be read. Its text goes to the client."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for."""

    answers: Answers
    model: str
    streamed: bool


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60  # an idle or stuck connection does not hold its thread for ever

    def do_POST(self) -> None:
        """Answer a model call."""
        try:
            body = self._read_body()
            asked = self._asked(body)
        except BadRequestError as problem:
            self.close_connection = True
            self._send_json(400, {"error": {"message": str(problem), "type": "invalid_request_error"}})
            return
        if asked is None:
            self._send_json(404, {"error": {"message": f"Unknown request URL: POST {self.path}."}})
            return
        credential = self._credential()
        answers, model = asked.answers, asked.model
        text = text_of(model)
        match credential:
            case Role.REFUSES:
                self._fail(answers.refusal(model))
            case Role.FAILS_IN_STREAM if asked.streamed:
                self._send_stream([event.encode() for event in answers.broken_stream(model)])
            case Role.FAILS_IN_STREAM:
                self._fail(answers.overload())
            case Role.WORKS if asked.streamed:
                self._send_stream([event.encode() for event in answers.stream(model, text)])
            case Role.WORKS:
                self._send_json(200, answers.plain(model, text))
            case _:
                self._fail(answers.unauthorized())

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: standard output carries the port and nothing else."""

    def _credential(self) -> str:
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        return bearer or self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or ""

    def _asked(self, body: bytes) -> Asked | None:
        path = urlsplit(self.path).path
        for pattern, answers in ENDPOINTS:
            if match := pattern.fullmatch(path):
                try:
                    document = json.loads(body)
                except ValueError as problem:
                    raise BadRequestError("We could not parse the JSON body of your request.") from problem
                if not isinstance(document, dict):
                    raise BadRequestError("The body of your request is not a JSON object.")
                if "model" in pattern.groupindex:
                    return Asked(answers, unquote(match["model"]), match["action"].startswith("stream"))
                streamed = document.get("stream") is True and not answers.counts
                return Asked(answers, str(document.get("model", "")), streamed)
        return None

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._read_chunks()
        return self.rfile.read(self._size(self.headers.get("content-length", "0"), 10))

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while size := self._size(self.rfile.readline(1024).partition(b";")[0].decode("latin-1"), 16, len(body)):
            body += self.rfile.read(size)
            self.rfile.readline(1024)
        while self.rfile.readline(65536).strip():
            pass  # trailers
        return bytes(body)

    def _size(self, text: str, base: int, so_far: int = 0) -> int:
        try:
            size = int(text, base)
        except ValueError as problem:
            raise BadRequestError("The length of the body cannot be read.") from problem
        if not 0 <= size <= MAX_BODY - so_far:
            raise BadRequestError("The body is too long.")
        return size

    def _fail(self, failure: Failure) -> None:
        self._send_json(failure.status, failure.body)

    def _send_json(self, status: int, value: Json) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header(*MADE_UP)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_stream(self, events: list[bytes]) -> None:
        self.send_response(200)
        self.send_header(*MADE_UP)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            time.sleep(PACE)
        self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    """Loopback only; threads end with the process."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away in mid-stream; everything else is a mistake worth a trace."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type] # typeshed wants its own private types


def is_gone(parent: int, first_parent: int) -> bool:
    """Whether the process we belong to has ended. ``first_parent``: our own parent when we started."""
    if parent == first_parent:
        return os.getppid() != first_parent
    if os.name == "nt":  # there, os.kill() ends the process it is asked about
        return False
    try:
        os.kill(parent, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or the parent's end."""
    first_parent = os.getppid()
    parser = argparse.ArgumentParser(prog="understudy.demo.upstream", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: any free one")
    parser.add_argument("--parent", type=int, default=first_parent, help="end when this process has ended")
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Server(options.port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        while not ended.wait(PARENT_POLL) and not is_gone(options.parent, first_parent):
            pass
        server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
