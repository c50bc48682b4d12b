"""Answers with its event, or does what the query says."""

import json
import os
import time

from shared import LAYER


def handler(event, context):
    query = event.get("queryStringParameters") or {}
    time.sleep(float(query.get("sleep", 0)))
    if "exit" in query:
        os._exit(3)
    if "raise" in query:
        raise ValueError(query["raise"])
    if "malformed" in query:
        return "not a response"
    if "headers" in query:
        return {
            "statusCode": 201,
            "headers": {"X-One": "1", "Content-Type": "text/plain"},
            "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]},
            "body": "aGk=",
            "isBase64Encoded": True,
        }
    about = {"pid": os.getpid(), "layer": LAYER, "environment": dict(os.environ)}
    about["remaining"] = context.get_remaining_time_in_millis()
    return {"statusCode": 200, "body": json.dumps({"event": event, **about})}
