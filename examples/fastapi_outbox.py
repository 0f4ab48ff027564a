"""A web shop whose orders and jobs are one commit: `python examples/fastapi_outbox.py`.

A request that fails leaves neither an order nor its job. Both are in `orders.db`, or in the
database that `DATABASE_URL` names: `sqlite:///orders.db`, `postgresql://user@host/database`. With
another broker, `BROKERQ_URL=amqp://localhost`, the jobs go to it by way of an outbox in there.

To serve it: `uvicorn fastapi_outbox:app`, and beside it `brokerq worker fastapi_outbox:bq`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from brokerq import BrokerQ, Context

DATABASE = os.environ.get("DATABASE_URL", "sqlite:///orders.db")
LIMIT = 100_000

bq = BrokerQ(
    "orders",
    url=os.environ.get("BROKERQ_URL", DATABASE),
    store_url=os.environ.get("BROKERQ_STORE_URL", DATABASE),
)
engine = create_engine(DATABASE.replace("postgresql://", "postgresql+psycopg://", 1))
sessions = sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The shop's own tables."""


class Order(Base):
    """An order, and its receipt once that is written."""

    __tablename__ = "shop_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]
    receipt: Mapped[str | None]


class Wanted(BaseModel):
    """What a customer sends."""

    cents: int


class Shown(BaseModel):
    """What a customer sees."""

    id: int
    receipt: str | None


@bq.job(idempotency_key="order_id", transaction=sessions.begin)
def write_receipt(ctx: Context, order_id: int) -> None:
    """Write the receipt: it and the job's success are one commit, too."""
    order = ctx.session.get_one(Order, order_id)
    order.receipt = f"{order.cents / 100:.2f} paid"


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Open brokerq before the first transaction; with SQLite it makes the file, too."""
    async with bq:
        await bq.open()
        await asyncio.to_thread(Base.metadata.create_all, engine)
        yield
    engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/orders", status_code=201)
def place_order(wanted: Wanted) -> Shown:
    """Take an order; leaving the block commits, an exception rolls everything back."""
    with sessions.begin() as session:
        order = Order(cents=wanted.cents)
        session.add(order)
        session.flush()  # the database gives it its id
        write_receipt.options(connection=session).publish_sync(order_id=order.id)
        if wanted.cents > LIMIT:
            raise HTTPException(402, "that is more than your limit")
    return Shown(id=order.id, receipt=order.receipt)


@app.get("/orders/{order_id}")
def show_order(order_id: int) -> Shown:
    """Show an order."""
    with sessions() as session:
        order = session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "there is no such order")
    return Shown(id=order.id, receipt=order.receipt)


def main() -> None:
    """Place two orders, one of them too large, and do a worker's work in between."""
    with TestClient(app) as customer:
        placed = customer.post("/orders", json={"cents": 4200}).json()
        refused = customer.post("/orders", json={"cents": 4_200_000})
        print("refused:", refused.json()["detail"])
        order = f"/orders/{placed['id']}"
        print("before the worker:", customer.get(order).json()["receipt"])
    print("the worker:", asyncio.run(work()))
    with TestClient(app) as customer:
        print("after the worker:", customer.get(order).json()["receipt"])


async def work() -> dict[str, int]:
    """Run all that is there, as `brokerq worker --burst` would."""
    async with bq:
        report = await bq.run_worker(burst=True)
    return dict(report.outcomes)


if __name__ == "__main__":
    main()
