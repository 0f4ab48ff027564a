"""A job that exists if, and only if, your own transaction commits."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from brokerq import BrokerQ
from brokerq.errors import NotFoundError


async def test_the_order_and_its_job_come_together_or_not_at_all(tmp_path: Path) -> None:
    """The records, and here the messages too, are in the database of your transaction."""
    file = tmp_path / "shop.db"
    async with BrokerQ("shop", url=f"sqlite:///{file}") as bq:

        @bq.job()
        async def ship(order: str) -> str:
            return f"{order} is on its way"

        await bq.open()  # before a transaction begins
        with closing(sqlite3.connect(file)) as db:
            db.execute("CREATE TABLE orders (id TEXT)")
            with db:  # commits
                db.execute("INSERT INTO orders VALUES ('o-1')")
                shipped = await ship.options(connection=db).publish("o-1")
            db.execute("INSERT INTO orders VALUES ('o-2')")
            lost = await ship.options(connection=db).publish("o-2")
            db.rollback()

            assert db.execute("SELECT id FROM orders").fetchall() == [("o-1",)]
        await bq.process()
        assert await shipped.result() == "o-1 is on its way"
        with pytest.raises(NotFoundError):
            await lost.status()
