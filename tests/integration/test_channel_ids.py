"""Conversations with the ids of real channels, written into URLs as HTTP clients do it."""

from __future__ import annotations

from urllib.parse import quote

from tests.channel_ids import CHANNEL_IDS
from tests.integration.conftest import CANARY, Api

#: The characters that clients don't encode in a segment of a path (RFC 3986).
SEGMENT = "-._~!$&'()*+,;=:@"


def test_each_id_is_one_conversation_in_every_spelling_until_it_is_erased(api: Api) -> None:
    jobs = {id_: api.post(quote(id_, safe=""), messages=[said(id_)])["ai_job_id"] for id_ in CHANNEL_IDS}
    for id_ in CHANNEL_IDS:
        written, encoded = quote(id_, safe=SEGMENT), quote(id_, safe="")
        again = api.post(written, messages=[said(id_)])
        assert (again["ai_job_id"], again["duplicate"]) == (jobs[id_], True)
        assert api.call("GET", f"/admin/locks/{encoded}").json()["conversation_id"] == id_
        twice = api.call("GET", f"/conversations/{quote(encoded, safe='')}")
        assert twice.status_code == (400 if "%" in encoded else 200)
    for id_, job_id in jobs.items():
        encoded = quote(id_, safe="")
        assert api.ended(job_id)["conversation_id"] == id_
        assert [turn["job_id"] for turn in api.turns(encoded)] == [job_id, job_id]
        (listed,) = api.call("GET", "/admin/jobs", params={"conversation_id": id_}).json()["jobs"]
        assert listed["conversation_id"] == id_
        assert api.call("GET", f"/admin/conversations/{encoded}/export").json()["conversation_id"] == id_
        assert api.call("DELETE", f"/admin/conversations/{encoded}").status_code == 200
        assert api.call("GET", f"/conversations/{encoded}").status_code == 404


def said(conversation_id: str) -> dict[str, str]:
    return {"role": "user", "content": f"{CANARY} {conversation_id}", "message_id": "m-1"}
