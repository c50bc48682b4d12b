"""Migrates, or fails to."""

import os


def handler(event, context):
    if os.environ["GREETING"] == "refuse":
        raise RuntimeError("relation missing in " + os.environ["DATABASE_URL"])
    print("not json: " + event["action"])
    return {"did": event["action"]}
