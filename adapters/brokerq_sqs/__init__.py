"""The Amazon SQS adapter: a broker without servers of one's own; records go to another store.

`sqs://eu-central-1` is enough; options are `prefix` (of the queues' names, instead of the app's),
`endpoint` (an emulator), `profile` (of the AWS configuration), `kms` (a key id or alias that
encrypts, instead of SQS's own) and `wait=20s` (how long an idle poll waits at most). Credentials
come from the usual AWS chain.

| brokerq | here |
| --- | --- |
| queue, lane | a standard queue for each level; `topology.py` has the names |
| ordered queue | a FIFO queue; the group is the ordering key, handed out one at a time |
| message | the body as it is, or base64; all headers as JSON in one attribute |
| confirmed | SendMessageBatch has answered for the entry |
| delivery, lease | receive and visibility timeout, counted by our own clock from before the poll |
| acknowledge | DeleteMessageBatch |
| extend, retry, release | ChangeMessageVisibilityBatch; a copy where SQS is about to give up |
| delay | DelaySeconds, rounded up to whole seconds |
| dead letter | sent to the queue's `-dead`, then the original is deleted |
| tenant | MessageGroupId on a standard queue: SQS's fair queues |
| handed over by a host | events of AWS Lambda; it deletes, by the answer it gets |
| topology | RedrivePolicy, RedriveAllowPolicy, 14 days of retention, encryption, tags |

| capability | here |
| --- | --- |
| max_body | 720 KiB: 1 MiB, less what base64 and the record of a dead letter take |
| max_delay | 15 minutes, not in ordered queues; in place 12 hours less the time held |
| max_batch | 10 |
| lease | 30 s unless the queue says otherwise; only our own clock knows of a lost one |
| max_hold | 12 hours |
| ordering | per key, without delays and without copies: with `none://` retries are refused |
| max_levels | 10 |
| counting | all receives |
| durability | the loss of a host |

SQS's counts are approximate, and it tells no age of the oldest message. It delivers a message twice
now and then, and in any order. Reading dead letters hides them from others meanwhile.
"""

from __future__ import annotations

from random import Random

from brokerq.adapter import Backend
from brokerq.clock import Clock
from brokerq.url import Url
from brokerq_sqs.broker import SqsBroker
from brokerq_sqs.settings import Settings, read_settings

__all__ = ["Settings", "SqsBroker", "adapter"]


def adapter(url: Url, *, prefix: str, clock: Clock) -> Backend:
    """Make a broker; see `brokerq.adapter.Factory`."""
    settings = read_settings(url, prefix=prefix)
    jitter = Random()  # noqa: S311 - of pauses
    return Backend(broker=SqsBroker(settings, clock=clock, random=jitter), store=None)
