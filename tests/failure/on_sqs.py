"""Scenes whose broker is an SQS emulator, with records in SQLite, and a double that fails between.

Leases are whole seconds, three at least: a poll lasts a third of one, and a second is the shortest.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

from tests.failure.jobs import Scribe, build_app
from tests.failure.ledger import Ledger
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.failure.spec import Place
from tests.services import sqs
from tests.services.sqs_double import SqsDouble

LEASE = 3.0


def scene_on(
    folder: Path,
    spawner: Spawner,
    endpoint: str,
    *,
    double: SqsDouble | None = None,
    call_timeout: float | None = None,
    store: bool = True,
) -> Scene:
    """Make a scene; its processes go through the double, its own client does not.

    Without a store only the ledger can tell what happened.
    """
    name = uuid.uuid4().hex[:8]
    folder = folder / name
    folder.mkdir()
    place = Place(
        url=_url(endpoint),
        store_url=f"sqlite:///{folder}/records.db" if store else "none://",
        prefix=f"failure-{name}",
        ledger=str(folder / "ledger.jsonl"),
        lease=LEASE,
        call_timeout=call_timeout,
    )
    ledger = Ledger(place.ledger)
    bq = build_app(place, Scribe(ledger=ledger))
    if double is not None:
        place = replace(place, url=_url(double.url))
    return Scene(spawner=spawner, place=place, folder=folder, bq=bq, ledger=ledger)


def _url(endpoint: str) -> str:
    return f"sqs://{sqs.REGION}?endpoint={endpoint}&wait=1s"
