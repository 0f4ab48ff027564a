"""The service that the demo's handler calls: a program of its own, with a ledger of its own.

`python -m brokerq.demo.service FOLDER RUN ROWS SEED` prints its address, then answers until its
standard input ends, so that it never outlives the demo. `POST /RUN/entries` registers what it is
sent; `POST /RUN/repair` ends the faults that can be repaired.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn, cast

from brokerq.demo.faults import RETRY_AFTER, Fault, plan, react, usual_wait
from brokerq.demo.ledger import Ledger


class Registrar(ThreadingHTTPServer):
    """Registers entries, one thread per call."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, ledger: Ledger, *, run: str, faults: Mapping[int, Fault], seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Call)
        self.ledger = ledger
        self.run = run
        self.faults = faults
        self.seed = seed
        self.repaired = threading.Event()
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers that hang up: that is what late answers and kills lead to."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Call(BaseHTTPRequestHandler):
    """One call."""

    def do_POST(self) -> None:
        """Answer by the path."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        service = cast("Registrar", self.server)
        if self.path == f"/{service.run}/entries":
            self._register(service, body)
        elif self.path == f"/{service.run}/repair":
            service.repaired.set()
            self._answer(204)
        else:  # work that an interrupted demo left behind, for a service that is gone
            self._answer(404)

    def _register(self, service: Registrar, body: str) -> None:
        key = self.headers.get("Idempotency-Key", "")
        _, _, number = key.rpartition("/")
        if not number.isdecimal():
            self._answer(400)
            return
        call = service.ledger.calls_of(key) + 1
        fault, repaired = service.faults.get(int(number)), service.repaired.is_set()
        reaction = react(fault, call=call, repaired=repaired)
        wait = usual_wait(service.seed, row=int(number), call=call) + reaction.wait
        # The effect comes before the wait, so that who gives up waiting cannot tell what happened.
        service.ledger.enter(key, status=reaction.status, effect=body if reaction.effect else None)
        service.closing.wait(wait.total_seconds())
        self._answer(reaction.status)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        if status == 503:  # noqa: PLR2004 - Service Unavailable
            self.send_header("Retry-After", str(int(RETRY_AFTER.total_seconds())))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        """Log nothing: the ledger has it all."""


def main(folder: Path, run: str, rows: int, seed: int) -> NoReturn:
    """Serve until standard input ends."""
    ledger = Ledger(folder / "ledger.db")
    service = Registrar(ledger, run=run, faults=plan(rows, seed), seed=seed)
    thread = threading.Thread(target=service.serve_forever, name="registrar")
    thread.start()
    sys.stdout.write(f"http://127.0.0.1:{service.server_port}/{run}\n")
    sys.stdout.flush()
    sys.stdin.read()
    service.closing.set()
    service.shutdown()
    thread.join()
    service.server_close()
    ledger.close()
    sys.exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
