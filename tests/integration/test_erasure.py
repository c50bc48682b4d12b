"""A patient's data over the API: exported and erased."""

from __future__ import annotations

import time

from tests.integration.conftest import AI_DELAY_MS, CANARY, Api


def test_a_conversation_is_exported_and_then_erased(api: Api) -> None:
    path = "/admin/conversations/patient-who-goes"
    assert api.call("GET", f"{path}/export").status_code == 404
    job_id = api.post("patient-who-goes", history=f"<USER>{CANARY} hello</USER><br>", message_id="m-1")["ai_job_id"]
    waiting = api.call("GET", f"{path}/export").json()
    assert [record["kind"] for record in waiting["records"]][-1] == "waiting" or waiting["next"]
    api.ended(job_id)
    records, after = [], ""
    while after is not None:
        page = api.call("GET", f"{path}/export", params={"after": after} if after else {}).json()
        records += page["records"]
        after = page["next"]
    assert [record["kind"] for record in records if record["kind"] != "delivery"] == [
        "conversation",
        "turn",
        "turn",
        "job",
        "settled",
    ]
    assert f"{CANARY} hello" in [record.get("content") for record in records]
    assert api.call("DELETE", path).json() == {"erased": True}
    assert api.call("DELETE", path).status_code == 404
    assert api.call("GET", "/conversations/patient-who-goes").status_code == 404
    assert api.call("GET", f"/jobs/{job_id}").status_code == 404


def test_a_conversation_erased_during_its_answer_does_not_come_back(api: Api) -> None:
    job_id = api.post("patient-in-flight", history=f"<USER>{CANARY} hello</USER><br>")["ai_job_id"]
    assert api.call("DELETE", "/admin/conversations/patient-in-flight").json() == {"erased": True}
    time.sleep(AI_DELAY_MS / 1000 + 3)  # the AI has answered, and the record was delivered
    assert api.call("GET", f"/jobs/{job_id}").status_code == 404
    assert api.call("GET", "/conversations/patient-in-flight").status_code == 404
