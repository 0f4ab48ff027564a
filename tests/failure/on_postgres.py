"""Scenes whose broker and store are one PostgreSQL database."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.failure.jobs import Scribe, build_app
from tests.failure.ledger import Ledger
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.failure.spec import Place
from tests.services.postgres import with_parameters
from tests.services.postgres_server import Server

QUICK_TO_SEE = {"poll": "200ms", "pool_timeout": "3s", "connect_timeout": "2"}
"""So that a test need not wait for what comes a little later with the defaults."""


def place_on(folder: Path, server: Server, port: int | None = None, **parameters: str) -> Place:
    """Make a place of its own on the server, reached through another port if one is given."""
    schema = f"failure_{uuid.uuid4().hex[:8]}"
    folder = folder / schema
    folder.mkdir()
    url = server.url.replace(f":{server.port}/", f":{port or server.port}/")
    given = {**QUICK_TO_SEE, **parameters, "schema": schema}
    return Place(url=with_parameters(url, **given), ledger=str(folder / "ledger.jsonl"))


def scene_on(
    folder: Path,
    spawner: Spawner,
    server: Server,
    *,
    port: int | None = None,
    parameters: Mapping[str, str] | None = None,
    lease: float = 1.0,
) -> Scene:
    """Make a scene on the server.

    Args:
        folder: For the ledger.
        spawner: Starts the processes.
        server: Has the database.
        port: By which the processes reach it; the scene's own client does not go through it.
        parameters: Of the URL of the processes.
        lease: Seconds; a worker that is cut off for longer loses what it has in hand.
    """
    there = replace(place_on(folder, server, port, **(parameters or {})), lease=lease)
    schema = Path(there.ledger).parent.name
    straight = with_parameters(server.url, **QUICK_TO_SEE, schema=schema)
    ledger = Ledger(there.ledger)
    own = Place(url=straight, ledger=there.ledger, lease=lease)
    bq = build_app(own, Scribe(ledger=ledger))
    return Scene(spawner=spawner, place=there, folder=ledger.path.parent, bq=bq, ledger=ledger)
