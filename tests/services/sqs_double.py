"""An SQS that fails as AWS does now and then: an HTTP proxy before an emulator.

What a rule asks for happens to the calls that it names; all others pass. A duplicate delivery has a
receipt handle of its own: settling it is answered, and changes nothing.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Self, cast
from urllib.parse import urlsplit

from tests.services.ports import HOST
from tests.services.sqs_faults import (
    CHANGE,
    DELETE,
    PATIENCE,
    RECEIVE,
    CutError,
    Exchange,
    Fault,
    Json,
    Reply,
)

_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing is a reset
_COPY = "copy-of:"
_TYPE = "application/x-amz-json-1.0"


@dataclass(slots=True)
class Rule:
    """What happens to some calls.

    Attributes:
        left: How many more calls it strikes; None: any number.
        every: It strikes each n-th call of an action.
        share: Of these.
    """

    fault: Fault
    actions: frozenset[str]
    left: int | None
    every: int
    share: float


@dataclass(slots=True)
class Copies:
    """Deliveries that are handed out once more.

    Attributes:
        left: How many more messages are to be seen twice.
    """

    left: int = 0
    waiting: dict[str, deque[Json]] = field(default_factory=dict[str, deque[Json]])


class SqsDouble:
    """Listens on loopback before the emulator at the endpoint; a context manager.

    Attributes:
        url: Its own endpoint.
        calls: How often what was called.
        strikes: How often each fault has happened, by its name; `twice` for duplicates.
    """

    def __init__(self, endpoint: str, *, seed: int = 1) -> None:
        parts = urlsplit(endpoint)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = parts.hostname, parts.port
        self._random = Random(seed)
        self._rules: list[Rule] = []
        self._copies = Copies()
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.calls: Counter[str] = Counter()
        self.strikes: Counter[str] = Counter()
        self.url = f"http://{HOST}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def arrange(
        self,
        fault: Fault,
        *actions: str,
        times: int | None = 1,
        every: int = 1,
        share: float = 1.0,
    ) -> None:
        """Let a fault happen to the next calls of these actions; `times` is None: to all."""
        with self._turn:
            self._rules.append(Rule(fault, frozenset(actions), times, every, share))

    def deliver_twice(self, times: int) -> None:
        """Let so many messages that are received from now on be received once more."""
        with self._turn:
            self._copies.left += times

    def heal(self) -> None:
        """Forget all rules; who waits in vain is cut off."""
        with self._turn:
            self._rules.clear()
            self._copies.left = 0
            ended, self._ended = self._ended, threading.Event()
        ended.set()

    def answer(self, action: str, path: str, head: dict[str, str], body: bytes) -> Reply:
        """Carry out a call, or have it fail. Raises `CutError`."""

        def forward(request: Json) -> Reply:
            return self._forward(path, head, request)

        with self._turn:
            self.calls[action] += 1
            fault = self._choose(action)
            exchange = Exchange(action, json.loads(body), forward, self._ended)
        if action == RECEIVE:
            exchange.carry_out = lambda request: self._receive(request, forward)
        elif action in {DELETE, CHANGE}:
            exchange.carry_out = lambda request: _without_copies(request, forward)
        if fault is None:
            return exchange.carry_out(exchange.request)
        return fault(exchange)

    def _choose(self, action: str) -> Fault | None:
        for rule in self._rules:
            if action not in rule.actions or rule.left == 0 or self.calls[action] % rule.every:
                continue
            if self._random.random() >= rule.share:
                continue
            if rule.left is not None:
                rule.left -= 1
            self.strikes[getattr(rule.fault, "__name__", "fault")] += 1
            return rule.fault
        return None

    def _forward(self, path: str, head: dict[str, str], request: Json) -> Reply:
        connection = http.client.HTTPConnection(*self._address, timeout=PATIENCE)
        try:
            connection.request("POST", path, json.dumps(request).encode(), head)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read())
        finally:
            connection.close()

    def _receive(self, request: Json, forward: Callable[[Json], Reply]) -> Reply:
        """Add what was received before to what is received now."""
        most = int(request.get("MaxNumberOfMessages", 1))
        queue = request["QueueUrl"]
        with self._turn:
            waiting = self._copies.waiting.setdefault(queue, deque())
            copies = [waiting.popleft() for _ in range(min(most, len(waiting)))]
            self.strikes["twice"] += len(copies)
        if len(copies) == most:
            return Reply.of({"Messages": copies})
        if copies:
            request = {**request, "MaxNumberOfMessages": most - len(copies), "WaitTimeSeconds": 0}
        reply = forward(request)
        if reply.status != http.client.OK:
            return reply
        found: list[Json] = reply.value.get("Messages", [])
        with self._turn:
            chosen = found[: self._copies.left]
            self._copies.left -= len(chosen)
            waiting.extend(
                {**each, "ReceiptHandle": _COPY + each["ReceiptHandle"]} for each in chosen
            )
        return Reply.of({"Messages": [*copies, *found]})


def _without_copies(request: Json, forward: Callable[[Json], Reply]) -> Reply:
    entries: list[Json] = request["Entries"]
    copies = [entry for entry in entries if entry["ReceiptHandle"].startswith(_COPY)]
    left = [entry for entry in entries if entry not in copies]
    reply = forward({**request, "Entries": left}) if left else Reply.of({"Successful": []})
    if not copies or reply.status != http.client.OK:
        return reply
    answer = reply.value
    answer.setdefault("Successful", []).extend({"Id": entry["Id"]} for entry in copies)
    return Reply.of(answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, double: SqsDouble) -> None:
        super().__init__((HOST, 0), _Handler)
        self.double = double

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing where a client has gone, as clients under test do."""
        del request, client_address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer one call."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = {name: text for name, text in self.headers.items() if name != "Content-Length"}
        action = self.headers["X-Amz-Target"].rpartition(".")[2]
        try:
            reply = cast("_Server", self.server).double.answer(action, self.path, head, body)
        except CutError as exc:
            if exc.reply is not None:
                self._begin(exc.reply)
                self.wfile.write(exc.reply.content[: len(exc.reply.content) // 2])
                self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.connection.close()
            self.close_connection = True
            return
        self._begin(reply)
        self.wfile.write(reply.content)

    def _begin(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", _TYPE)
        self.send_header("Content-Length", str(len(reply.content)))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing."""
