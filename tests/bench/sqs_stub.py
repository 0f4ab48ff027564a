"""What SQS would be if it cost nothing: a server for benchmarks, in a process of its own.

Every call takes constant time, however much is waiting, so that what is measured is the client. It
keeps what the adapter relies on: visibility, delays, long polls, receive counts and attributes; it
has no order, no redrive, no signatures, and nothing lasts. A GET tells how often what was called.

`python -m tests.bench.sqs_stub PORT MILLISECONDS`: each answer comes so much later.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from hashlib import md5
from itertools import count
from typing import Any

from tests.services.ports import HOST

Json = dict[str, Any]
HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n"
END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"
TARGET = b"\r\nx-amz-target:"
NO_QUEUE = "com.amazonaws.sqs#QueueDoesNotExist"
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(slots=True)
class Stored:
    """A message."""

    id: str
    sent: Json
    receives: int = 0


@dataclass(slots=True, eq=False)
class Waiter:
    """A long poll that found nothing yet."""

    request: Json
    answer: Callable[[list[Json]], None]


@dataclass(slots=True)
class Queue:
    """One queue.

    Attributes:
        held: By receipt handle.
    """

    name: str
    attributes: dict[str, str]
    ready: deque[Stored] = field(default_factory=deque[Stored])
    delayed: int = 0
    held: dict[str, tuple[Stored, asyncio.TimerHandle]] = field(
        default_factory=dict[str, tuple[Stored, asyncio.TimerHandle]]
    )
    waiters: deque[Waiter] = field(default_factory=deque[Waiter])

    def put(self, message: Stored) -> None:
        """Make a message visible."""
        self.ready.append(message)
        if self.waiters:
            waiter = self.waiters.popleft()
            waiter.answer(self.take(waiter.request))

    def take(self, request: Json) -> list[Json]:
        """Hand out what is ready."""
        most = min(request.get("MaxNumberOfMessages", 1), len(self.ready))
        lease = request.get("VisibilityTimeout", int(self.attributes["VisibilityTimeout"]))
        return [self._deliver(self.ready.popleft(), lease) for _ in range(most)]

    def _deliver(self, message: Stored, lease: int) -> Json:
        message.receives += 1
        handle = f"{message.id}#{message.receives}"
        self._hold(handle, message, lease)
        body = message.sent["MessageBody"]
        delivery: Json = {
            "MessageId": message.id,
            "ReceiptHandle": handle,
            "Body": body,
            "MD5OfBody": _md5(body),
            "Attributes": {
                "ApproximateReceiveCount": str(message.receives),
                "SentTimestamp": "1767225600000",
            },
        }
        if "MessageAttributes" in message.sent:
            delivery["MessageAttributes"] = message.sent["MessageAttributes"]
        return delivery

    def _hold(self, handle: str, message: Stored, seconds: int) -> None:
        loop = asyncio.get_running_loop()
        self.held[handle] = message, loop.call_later(seconds, self._lapse, handle)

    def _lapse(self, handle: str) -> None:
        self.put(self.held.pop(handle)[0])

    def hide(self, handle: str, seconds: int) -> None:
        """Let a delivery last so long from now."""
        held = self.held.pop(handle, None)
        if held is not None:
            held[1].cancel()
            self._hold(handle, held[0], seconds)

    def remove(self, handle: str) -> None:
        """Forget a delivery's message."""
        held = self.held.pop(handle, None)
        if held is not None:
            held[1].cancel()

    def later(self, message: Stored) -> None:
        """Make a delayed message visible."""
        self.delayed -= 1
        self.put(message)


class Server:
    """All queues, and what was called how often."""

    def __init__(self, port: int, latency: float) -> None:
        self.latency = latency
        self.calls: Counter[str] = Counter()
        self._port = port
        self._queues: dict[str, Queue] = {}
        self._ids = count()

    def call(self, action: str, request: Json) -> Json | Coroutine[Any, Any, Json]:
        """Carry out an action; a coroutine where it has to wait. Raises `KeyError`."""
        self.calls[action] += 1
        if action == "CreateQueue":
            return self._create(request)
        if action == "GetQueueUrl":
            return {"QueueUrl": self._url(self._queues[request["QueueName"]].name)}
        queue = self._queues[request["QueueUrl"].rpartition("/")[2]]
        match action:
            case "ReceiveMessage":
                return self._receive(queue, request)
            case "GetQueueAttributes":
                return {"Attributes": self._attributes(queue)}
            case "SetQueueAttributes":
                queue.attributes |= request["Attributes"]
                return {}
            case _:
                each = {
                    "SendMessageBatch": self._send,
                    "DeleteMessageBatch": _delete,
                    "ChangeMessageVisibilityBatch": _change,
                }[action]
                return {"Successful": [each(queue, entry) for entry in request["Entries"]]}

    def _url(self, name: str) -> str:
        return f"http://{HOST}:{self._port}/000000000000/{name}"

    def _create(self, request: Json) -> Json:
        name = request["QueueName"]
        given = {"VisibilityTimeout": "30", **request.get("Attributes", {})}
        self._queues.setdefault(name, Queue(name, given))
        return {"QueueUrl": self._url(name)}

    def _attributes(self, queue: Queue) -> Json:
        return {
            **queue.attributes,
            "QueueArn": f"arn:aws:sqs:us-east-1:000000000000:{queue.name}",
            "ApproximateNumberOfMessages": str(len(queue.ready)),
            "ApproximateNumberOfMessagesDelayed": str(queue.delayed),
            "ApproximateNumberOfMessagesNotVisible": str(len(queue.held)),
        }

    def _send(self, queue: Queue, entry: Json) -> Json:
        message = Stored(f"{next(self._ids):032x}", entry)
        delay = entry.get("DelaySeconds", 0)
        if delay:
            queue.delayed += 1
            asyncio.get_running_loop().call_later(delay, queue.later, message)
        else:
            queue.put(message)
        text = entry["MessageBody"]
        return {"Id": entry["Id"], "MessageId": message.id, "MD5OfMessageBody": _md5(text)}

    def _receive(self, queue: Queue, request: Json) -> Json | Coroutine[Any, Any, Json]:
        found = queue.take(request)
        if found or not request.get("WaitTimeSeconds"):
            return {"Messages": found}
        return self._wait(queue, request)

    async def _wait(self, queue: Queue, request: Json) -> Json:
        found: asyncio.Future[list[Json]] = asyncio.get_running_loop().create_future()
        waiter = Waiter(request, found.set_result)
        queue.waiters.append(waiter)
        done, _ = await asyncio.wait([found], timeout=request["WaitTimeSeconds"])
        if done:
            return {"Messages": found.result()}
        queue.waiters.remove(waiter)
        return {}


def _delete(queue: Queue, entry: Json) -> Json:
    queue.remove(entry["ReceiptHandle"])
    return {"Id": entry["Id"]}


def _change(queue: Queue, entry: Json) -> Json:
    queue.hide(entry["ReceiptHandle"], entry["VisibilityTimeout"])
    return {"Id": entry["Id"]}


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


class Connection(asyncio.Protocol):
    """One client's connection; requests come one after another."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = b""
        self._waits: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request is whole."""
        self._received += data
        head, end, body = self._received.partition(END)
        low = head.lower()
        if not end or len(body) < int(_field(head, low, LENGTH) or 0):
            return
        self._received = b""
        if head.startswith(b"GET"):
            self._reply(dict(self._server.calls))
            return
        action = _field(head, low, TARGET).decode().rpartition(".")[2]
        try:
            answer = self._server.call(action, json.loads(body))
        except KeyError as exc:
            self._reply({"__type": NO_QUEUE, "message": repr(exc)}, b"400 Bad Request")
            return
        if isinstance(answer, dict):
            self._reply(answer)
        else:
            task = asyncio.create_task(self._reply_later(answer))
            self._waits.add(task)
            task.add_done_callback(self._waits.discard)

    async def _reply_later(self, answer: Coroutine[Any, Any, Json]) -> None:
        self._reply(await answer)

    def _reply(self, answer: Json, status: bytes = b"200 OK") -> None:
        body = _encode(answer).encode()
        data = HEAD % (status, len(body)) + body
        if self._server.latency:
            loop = asyncio.get_running_loop()
            loop.call_later(self._server.latency, self._transport.write, data)
        else:
            self._transport.write(data)


def _field(head: bytes, low: bytes, name: bytes) -> bytes:
    """Return a header's value; `low` is the head in lower case."""
    start = low.find(name)
    return b"" if start < 0 else head[start + len(name) :].partition(b"\r")[0].strip()


async def main(port: int, latency: float) -> None:
    """Serve until killed."""
    server = Server(port, latency)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), HOST, port)
    print("ready", flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]) / 1000))
