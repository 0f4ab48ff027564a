"""Creates queues in an SQS emulator, from what `brokerq topology plan --json` has written.

LocalStack runs it when it is ready, from /etc/localstack/init/ready.d; or run it yourself. It reads
every *.json in the folder BROKERQ_PLANS, by default in LocalStack's. Never meant for AWS: its
credentials are those of emulators.
"""

import json
import os
from pathlib import Path

import boto3

plans = Path(os.environ.get("BROKERQ_PLANS", "/etc/localstack/init/ready.d"))
sqs = boto3.client(
    "sqs",
    endpoint_url=os.environ.get("AWS_ENDPOINT_URL", "http://localhost:4566"),
    region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
    aws_access_key_id="test",
    aws_secret_access_key="test",
)
for plan in sorted(plans.glob("*.json")):
    for queue in json.loads(plan.read_text(encoding="utf-8"))["resources"]:
        plain = {name: value for name, value in queue["settings"].items() if "Redrive" not in name}
        url = sqs.create_queue(QueueName=queue["name"], Attributes=plain)["QueueUrl"]
        answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        beside = answer["Attributes"]["QueueArn"].rpartition(":")[0] + ":"
        # A plan has names where SQS has addresses. The dead letters' queue comes before the others.
        policies = {}
        for name in queue["settings"].keys() - plain.keys():
            policy = json.loads(queue["settings"][name])
            if "deadLetterTargetArn" in policy:
                policy["deadLetterTargetArn"] = beside + policy["deadLetterTargetArn"]
            if "sourceQueueArns" in policy:
                policy["sourceQueueArns"] = [beside + each for each in policy["sourceQueueArns"]]
            policies[name] = json.dumps(policy)
        sqs.set_queue_attributes(QueueUrl=url, Attributes=policies)
        print("created", queue["name"])
