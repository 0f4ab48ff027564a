"""Every role may do what it has to, and nothing else."""

from __future__ import annotations

import json

import pytest
from brokerq_sqs.permissions import policies
from brokerq_sqs.topology import plan
from pydantic import BaseModel, Field

from brokerq.broker import QueueSpec


class Statement(BaseModel):
    sid: str = Field(alias="Sid")
    effect: str = Field(alias="Effect")
    action: list[str] = Field(alias="Action")
    resource: list[str] | str = Field(alias="Resource")
    condition: dict[str, dict[str, str]] | None = Field(alias="Condition", default=None)


class Policy(BaseModel):
    version: str = Field(alias="Version")
    statement: list[Statement] = Field(alias="Statement")


def read(role: str, *, region: str = "us-east-1", kms: str | None = None) -> list[Statement]:
    plans = [plan(QueueSpec(name="mail", levels=("high", "normal")), prefix="shop", kms=kms)]
    policy = Policy.model_validate(json.loads(policies(plans, region=region, kms=kms)[role]))
    assert policy.version == "2012-10-17"
    return policy.statement


def test_a_producer_can_only_send() -> None:
    [jobs] = read("producer")
    assert jobs.action == ["sqs:GetQueueUrl", "sqs:SendMessage"]
    assert jobs.resource == [
        "arn:aws:sqs:us-east-1:*:shop__mail__high",
        "arn:aws:sqs:us-east-1:*:shop__mail",
    ]


@pytest.mark.parametrize("role", ["producer", "consumer", "operator"])
def test_only_a_deployer_can_change_a_queue(role: str) -> None:
    deploying = {"sqs:CreateQueue", "sqs:SetQueueAttributes", "sqs:TagQueue"}
    assert not deploying & {action for each in read(role) for action in each.action}
    assert deploying < {action for each in read("deployer") for action in each.action}


def test_a_consumer_reaches_the_dead_letters_too() -> None:
    _, letters, others = read("consumer")
    assert letters.resource == ["arn:aws:sqs:us-east-1:*:shop__mail-dead"]
    assert {"sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage"} < set(letters.action)
    assert others.action == ["sqs:GetQueueUrl"]
    assert others.resource == ["arn:aws:sqs:us-east-1:*:shop__mail-dead.fifo"]


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
    ],
)
def test_an_address_is_that_of_its_partition(region: str, partition: str) -> None:
    [jobs] = read("producer", region=region)
    assert jobs.resource[0].startswith(f"arn:{partition}:sqs:{region}:*:")


@pytest.mark.parametrize(
    ("kms", "resource", "condition"),
    [
        ("1234", "arn:aws:kms:us-east-1:*:key/1234", None),
        ("arn:aws:kms:us-east-1:1:key/1", "arn:aws:kms:us-east-1:1:key/1", None),
        (
            "alias/jobs",
            "arn:aws:kms:us-east-1:*:key/*",
            {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/jobs"}},
        ),
    ],
)
def test_who_reads_or_writes_may_use_the_key(
    kms: str, resource: str, condition: dict[str, dict[str, str]] | None
) -> None:
    *_, key = read("consumer", kms=kms)
    assert (key.sid, key.resource, key.condition) == ("Key", resource, condition)
    assert "Key" not in [each.sid for each in read("deployer", kms=kms)]
