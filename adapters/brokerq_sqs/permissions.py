"""The IAM policies that each role needs, and no more. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from brokerq_sqs.topology import Plan

_FIND = ("GetQueueUrl",)
_LOOK = ("GetQueueAttributes",)
_TAKE = ("ChangeMessageVisibility", "DeleteMessage", "ReceiveMessage")
_SEND = ("SendMessage",)
_MAKE = ("CreateQueue", "SetQueueAttributes", "TagQueue")

# What each role does with the queues of jobs, and with those of dead letters.
_ROLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "producer": (_SEND + _FIND, ()),
    # A worker sends copies, and puts a record to what SQS itself has given up on.
    "consumer": (_TAKE + _SEND + _LOOK + _FIND, _TAKE + _SEND + _LOOK + _FIND),
    "operator": (_TAKE + _SEND + _LOOK + _FIND, _TAKE + _LOOK + _FIND),
    "deployer": (_MAKE + _LOOK + _FIND, _MAKE + _LOOK + _FIND),
}
_ENCRYPTED = ("producer", "consumer", "operator")
_PARTITIONS = {"cn": "aws-cn", "us-gov": "aws-us-gov", "us-iso": "aws-iso", "us-isob": "aws-iso-b"}


def policies(plans: Sequence[Plan], *, region: str, kms: str | None) -> dict[str, str]:
    """Return each role's policy as IAM takes it."""
    return {
        role: json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": list(_statements(role, plans, region=region, kms=kms)),
            },
            indent=2,
        )
        for role in _ROLES
    }


def _statements(
    role: str, plans: Sequence[Plan], *, region: str, kms: str | None
) -> Iterator[dict[str, object]]:
    with_jobs, with_letters = _ROLES[role]
    jobs = [wanted.name for plan in plans for wanted in plan.levels.values()]
    letters = [plan.dead.name for plan in plans]
    # Looked for where the queue is missing, to tell whether it is there with the other order.
    others = [plan.other_dead for plan in plans]
    for sid, actions, names in (
        ("Jobs", with_jobs, jobs),
        ("DeadLetters", with_letters, letters),
        ("Others", with_letters and _FIND, others),
    ):
        if actions and names:
            yield {
                "Sid": sid,
                "Effect": "Allow",
                "Action": sorted(f"sqs:{action}" for action in actions),
                "Resource": [_arn("sqs", region, name) for name in names],
            }
    if kms is not None and role in _ENCRYPTED:
        yield _key(kms, region)


def _key(kms: str, region: str) -> dict[str, object]:
    statement: dict[str, object] = {
        "Sid": "Key",
        "Effect": "Allow",
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": kms if kms.startswith("arn:") else _arn("kms", region, f"key/{kms}"),
    }
    if kms.startswith("alias/"):  # rights are given on keys; the alias says on which
        statement["Resource"] = _arn("kms", region, "key/*")
        statement["Condition"] = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": kms}}
    return statement


def _arn(service: str, region: str, name: str) -> str:
    """The account is left open: who attaches the policy is in it."""
    longest = max((part for part in _PARTITIONS if region.startswith(f"{part}-")), default="")
    return f"arn:{_PARTITIONS.get(longest, 'aws')}:{service}:{region}:*:{name}"
