"""Does what each record's body says: {"fail": true}, {"raise": true}, {"sleep": seconds}, {"hide": seconds}."""

import json
import time

import boto3

_sqs = boto3.client("sqs")


def handler(event, context):
    print(json.dumps({"level": "INFO", "received": [record["body"] for record in event["Records"]], "at": time.time()}))
    failures = []
    for record in event["Records"]:
        body = json.loads(record["body"])
        time.sleep(body.get("sleep", 0))
        if body.get("raise"):
            raise RuntimeError("the whole batch")
        if "hide" in body:
            queue_url = _sqs.get_queue_url(QueueName="JobQueue")["QueueUrl"]
            _sqs.change_message_visibility(
                QueueUrl=queue_url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=body["hide"]
            )
        if body.get("fail") or "hide" in body:
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}
