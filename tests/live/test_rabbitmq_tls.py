"""RabbitMQ over TLS: the server is verified, and a certificate is shown where it asks for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from brokerq import BrokerQ, State
from brokerq.errors import ConnectionLostError
from tests.services.ports import HOST, await_open, free_port
from tests.services.rabbitmq import PATIENCE, own_node

ROOT = Path(os.environ.get("BROKERQ_TEST_RABBITMQ_ROOT", "/"))


class Tls(NamedTuple):
    """A node that takes nobody without a certificate, and the files of who may come in.

    Attributes:
        plain: The same node without TLS.
        management: Its management API, over TLS and without asking for a certificate.
    """

    url: str
    plain: str
    management: str
    ca: Path
    certificate: Path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    folder, port, management_port = tmp_path_factory.mktemp("tls"), free_port(), free_port()
    authority = trustme.CA()
    server = authority.issue_cert(HOST)
    client = authority.issue_cert("worker.example")
    client.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    node = own_node(managed=True)
    inside = Path("/", node.folder.relative_to(ROOT))
    authority.cert_pem.write_to_path(node.folder / "ca.pem")
    server.private_key_and_cert_chain_pem.write_to_path(node.folder / "server.pem")
    files = (
        f'{{cacertfile, "{inside}/ca.pem"}}, {{certfile, "{inside}/server.pem"}}, '
        f'{{keyfile, "{inside}/server.pem"}}'
    )
    (node.folder / "advanced.config").write_text(
        f'[{{rabbit, [{{ssl_listeners, [{{"{HOST}", {port}}}]}}, {{ssl_options, [{files}, '
        "{verify, verify_peer}, {fail_if_no_peer_cert, true}]}]}, {rabbitmq_management, "
        f'[{{ssl_config, [{{ip, "{HOST}"}}, {{port, {management_port}}}, {files}]}}]}}].',
        "ascii",
    )
    with node:
        await_open(port, PATIENCE)  # it opens after the plain one, for which a start waits
        await_open(management_port, PATIENCE)
        yield Tls(
            url=f"amqps://guest:guest@{HOST}:{port}/",
            plain=node.url,
            management=f"https://{HOST}:{management_port}",
            ca=folder / "ca.pem",
            certificate=folder / "client.pem",
        )


async def test_a_job_runs_over_a_connection_that_both_sides_have_verified(tls: Tls) -> None:
    url = f"{tls.url}?cafile={tls.ca}&certfile={tls.certificate}"
    async with BrokerQ("shop", url=url, store_url="memory://tls") as bq:

        @bq.job()
        async def work(number: int) -> int:
            return number + 1

        handle = await work.publish(1)
        await bq.run_worker(burst=True)
        assert (await handle.status()).state is State.SUCCEEDED


@pytest.mark.parametrize("given", ["", "?cafile={ca}"], ids=["unknown server", "no certificate"])
async def test_who_cannot_be_verified_is_refused(tls: Tls, given: str) -> None:
    bq = BrokerQ("shop", url=tls.url + given.format(ca=tls.ca), store_url="memory://tls")
    with pytest.raises(ConnectionLostError, match=r"(?i)certificate|tls|ssl"):
        await bq.open()
    await bq.close()


def managed(tls: Tls, url: str) -> BrokerQ:
    bq = BrokerQ("shop", url=f"{url}management={tls.management}", store_url="memory://tls")
    bq.queue("mail")
    return bq


async def test_the_management_api_is_verified_by_the_same_authority(tls: Tls) -> None:
    async with managed(tls, f"{tls.url}?cafile={tls.ca}&certfile={tls.certificate}&") as bq:
        [stats] = await bq.queues.stats()
        assert (stats.queue, stats.in_flight) == ("mail", 0)
    async with managed(tls, f"{tls.plain}?") as bq:
        with pytest.raises(ConnectionLostError, match=r"API cannot be reached.*certificate"):
            await bq.queues.stats()
