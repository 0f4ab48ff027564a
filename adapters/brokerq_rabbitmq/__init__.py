"""The RabbitMQ adapter: a durable broker for many hosts, from 3.10 on; records are kept elsewhere.

`amqp://user:password@host/vhost`, `amqps://` with TLS; several nodes as `host1,host2:5673`.
Parameters: `heartbeat=15s`, `prefetch=` (an upper bound; else what the worker asks for),
`connect_timeout=5s`, `publish_timeout=10s`, `consumer_timeout=30m` (what the server is set to),
`management=` (the URL of the management API, else it is not asked), and with TLS `cafile=`,
`certfile=`, `keyfile=`; a certificate without a user name logs in by itself. No plugin is needed.
Classic queues are refused; `queues=classic` says why. `topology.py` has the names of all that is
declared.

| brokerq | here |
| --- | --- |
| app | what begins with its prefix and a colon, in one virtual host |
| queue, lane | a durable quorum queue for each level |
| confirmed | a publisher confirm for a persistent message that was routed |
| delay, retry | a ladder of 16 quorum queues for each queue, 50 ms to 27 min each |
| delivery, lease | an unacknowledged message, while its channel lives |
| acknowledge | up to the first that is not settled with one frame, others singly |
| release | given back; with a delay, or near the delivery limit, a confirmed copy |
| dead letter | confirmed by `<queue>.dead`; what was returned 50 times goes there by itself |
| ordering key | refused: what comes back comes back elsewhere |
| held by workers | AMQP does not tell; the workers are asked, by messages, and `management` |

| capability | here |
| --- | --- |
| max_body | 16 MiB, of which 96 KiB may be headers |
| max_delay | 54 min at a time, to 50 ms; retries wait up to a quarter longer |
| max_batch | 1,000 |
| lease | none: while connected; nothing that was lost can be settled |
| max_hold | the server's consumer timeout |
| ordering | none |
| max_levels | 20 |
| counting | all deliveries since the last copy |
| durability | a crash of the host; with three nodes, its loss |
"""

from __future__ import annotations

from random import Random

from brokerq.adapter import Backend
from brokerq.clock import Clock
from brokerq.url import Url
from brokerq_rabbitmq.broker import RabbitBroker
from brokerq_rabbitmq.options import Options, read_options

__all__ = ["Options", "RabbitBroker", "adapter", "read_options"]


def adapter(url: Url, *, prefix: str, clock: Clock) -> Backend:
    """Make the broker; see `brokerq.adapter.Factory`. It is no store."""
    options = read_options(url)
    broker = RabbitBroker(options, prefix=prefix, clock=clock, random=Random())  # noqa: S311 - pauses
    return Backend(broker=broker, store=None)
