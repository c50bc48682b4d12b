"""What operators do through the admin function, and the audit of it."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from message_handler.ai.port import Prompt, Watch
from message_handler.archive.none import NoArchive, NoAudit
from message_handler.configuration.records import KINDS
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import declared
from message_handler.domain.errors import AIError, Unavailable
from message_handler.drivers.postgres import Database
from message_handler.http.lists import AUDITED
from message_handler.http.paging import cursor
from message_handler.operations.health import worker_status
from message_handler.ports.audit import AuditEntry
from message_handler.protocol.results import Lock
from message_handler.settings import Settings
from tests.unit.service import CANARY, KEY, Answer, Service

#: An id of `KEY`'s shard that no job has. It is the same in every run, because tests are named after it.
UNKNOWN_JOB = "361f1a3a-0dbe-8854-9d6e-3cf972894b32"
COUNTS = ("created", "completed", "failed", "cancelled")


def get(service: Service, name: str, **query: str) -> Answer:
    multiple = {key: [value] for key, value in query.items()}
    event = service.event(name, queryStringParameters=query, multiValueQueryStringParameters=multiple)
    return service.http("admin", event)


def audit(service: Service, **query: str) -> list[tuple[str, str, str]]:
    """The action, kind and record of each audit entry, the newest first."""
    entries = get(service, "admin-list-audit", **query).body["entries"]
    return [(entry["action"], entry["kind"], entry["record_id"]) for entry in entries]


def fail(_prompt: Prompt, _watch: Watch) -> str:
    raise AIError("ai_failed", "The AI was asked to fail.")


def failed_job(service: Service, conversation_id: str = "conv_123", words: str = "help", **more: Any) -> str:
    """The id of a job whose AI gave no answer."""
    before, service.ai.script = service.ai.script, fail
    body = {"history": f"<USER>{CANARY} {words}</USER><br>"} | more
    job_id: str = service.post(body, conversation_id).body["ai_job_id"]
    service.deliver()
    service.ai.script = before
    return job_id


def retry(service: Service, job_id: str) -> Answer:
    return service.http("admin", service.event("admin-retry-job", pathParameters={"job_id": job_id}))


def job(service: Service, job_id: str) -> dict[str, Any]:
    event = service.event("status-get-job", pathParameters={"job_id": job_id}, queryStringParameters=None)
    return service.http("status", event).body


@pytest.fixture(params=["memory", "postgres"])
def operated(request: pytest.FixtureRequest, service: Service) -> Service:
    """The service over each archive in turn."""
    return service if request.param == "memory" else request.getfixturevalue("configured")  # type: ignore[no-any-return]


class TestJobs:
    def test_failed_ones_are_found_without_any_text(self, operated: Service) -> None:
        job_id = failed_job(operated)
        operated.post({"history": f"<USER>{CANARY} fine</USER>"}, "another")
        operated.deliver()
        answer = get(operated, "admin-list-jobs", status="failed")
        (listed,) = answer.body["jobs"]
        operated.output.assert_private(json.dumps(answer.body))
        assert answer.body["next"] is None
        own = {"conversation_id", "consolidated_messages", "error_code"}
        assert set(listed) == {field.name for field in declared("list")} | own
        assert (listed["job_id"], listed["status"], listed["error_code"]) == (job_id, "failed", "ai_failed")
        assert listed["conversation_id"] == "conv_123"
        assert len(get(operated, "admin-list-jobs").body["jobs"]) == 2
        assert len(get(operated, "admin-list-jobs", conversation_id="another").body["jobs"]) == 1

    def test_each_job_is_on_one_page_the_newest_first(self, operated: Service) -> None:
        expected = [failed_job(operated, f"c-{number}") for number in range(5)][::-1]
        found, more = [], {}
        while True:
            answer = get(operated, "admin-list-jobs", limit="2", **more).body
            assert len(answer["jobs"]) <= 2
            found += [listed["job_id"] for listed in answer["jobs"]]
            if answer["next"] is None:
                break
            more = {"next": answer["next"]}
        assert found == expected

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"status": CANARY}, "status"),
            ({"status": "pending"}, "status"),
            ({"conversation_id": f"{CANARY} "}, "conversation_id"),
            ({"limit": "0"}, "limit"),
            ({"limit": "101"}, "limit"),
            ({"limit": "１"}, "limit"),
            ({"next": CANARY}, "next"),
            ({"next": cursor(1)}, "next"),
            ({"next": cursor(1, CANARY)}, "next"),
            ({"next": cursor(2**53, UNKNOWN_JOB)}, "next"),
            ({"next": cursor(2**63 - 1, UNKNOWN_JOB)}, "next"),
            ({"next": cursor(-1, UNKNOWN_JOB)}, "next"),
            ({"next": cursor(UNKNOWN_JOB, 1)}, "next"),
            ({"next": "[" * 10_000}, "next"),
        ],
        ids=str,
    )
    def test_what_can_not_be_asked_is_named(self, service: Service, query: dict[str, str], field: str) -> None:
        answer = get(service, "admin-list-jobs", **query)
        assert (answer.status, answer.body["field"]) == (400, field)

    def test_a_page_may_begin_behind_the_oldest_or_before_the_newest_moment(self, configured: Service) -> None:
        job_id = failed_job(configured)
        for created, found in ((0, []), (2**53 - 1, [job_id])):
            answer = get(configured, "admin-list-jobs", next=cursor(created, KEY.new_job_id()))
            assert [listed["job_id"] for listed in answer.body["jobs"]] == found

    def test_without_postgres_they_are_unknown(self, service: Service) -> None:
        service.use(archive=NoArchive())
        assert get(service, "admin-list-jobs").status == 503


class TestStatistics:
    def test_each_of_the_last_minutes_is_there(self, operated: Service) -> None:
        before = time.time()
        job_id = failed_job(operated)
        operated.post({"history": f"<USER>{CANARY} fine</USER>"}, "another")
        operated.deliver()
        minutes = get(operated, "admin-statistics", minutes="3").body["minutes"]
        ends = [datetime.fromisoformat(minute["at"]).timestamp() for minute in minutes]
        assert ends == [ends[0], ends[0] + 60, ends[0] + 120]
        assert ends[2] <= time.time() < ends[2] + 60 + 1
        assert ends[0] < before
        counted = Counter({name: sum(minute[name] for minute in minutes) for name in COUNTS})
        assert counted == {"created": 2, "completed": 1, "failed": 1, "cancelled": 0}
        ((median, p95),) = {
            (minute["median_seconds"], minute["p95_seconds"]) for minute in minutes if minute["completed"]
        }
        assert 0 <= median == p95 < 60
        assert job_id not in json.dumps(minutes)

    def test_nothing_is_counted_as_nothing(self, operated: Service) -> None:
        minutes = get(operated, "admin-statistics", minutes="60").body["minutes"]
        assert len(minutes) == 60
        assert {tuple(minute[name] for name in COUNTS) for minute in minutes} == {(0, 0, 0, 0)}
        assert {minute["median_seconds"] for minute in minutes} == {None}

    def test_without_a_number_it_is_a_quarter_of_an_hour(self, service: Service) -> None:
        event = service.event("admin-statistics", queryStringParameters=None, multiValueQueryStringParameters=None)
        assert len(service.http("admin", event).body["minutes"]) == 15

    @pytest.mark.parametrize("text", ["0", "61", "-1", "1.5", "", "１", "100", CANARY])
    def test_what_can_not_be_asked_is_named(self, service: Service, text: str) -> None:
        answer = get(service, "admin-statistics", minutes=text)
        assert (answer.status, answer.body["field"]) == (400, "minutes")

    def test_without_postgres_they_are_unknown(self, service: Service) -> None:
        service.use(archive=NoArchive())
        assert get(service, "admin-statistics").status == 503


class TestRetry:
    def test_another_job_answers_and_the_failed_one_leads_to_it(self, operated: Service) -> None:
        job_id = failed_job(operated, message_id="m-1")
        before = job(operated, job_id)
        answer = retry(operated, job_id)
        assert answer.status == 202
        successor = answer.body["ai_job_id"]
        assert answer.body == {
            "job_id": job_id,
            "conversation_id": "conv_123",
            "status": "retried",
            "ai_job_id": successor,
        }
        pending = [{"message_id": "m-1", "status": "pending", "job_id": successor}]
        assert job(operated, job_id) == before | {
            "superseded_by": successor,
            "messages": pending,
            "answered_by": None,
        }
        operated.deliver()
        assert job(operated, job_id)["answered_by"] == successor
        ended = job(operated, successor)
        assert (ended["status"], ended["consolidated_messages"]) == ("completed", 1)
        assert ended["reply"]["content"] == f"{CANARY} help"
        turns = operated.http("intake", operated.event("intake-get-conversation")).body["turns"]
        assert [(turn["role"], turn["job_id"]) for turn in turns] == [("user", successor), ("assistant", successor)]

    def test_done_twice_it_is_done_once(self, operated: Service) -> None:
        job_id = failed_job(operated)
        first = retry(operated, job_id)
        assert retry(operated, job_id).body == first.body
        operated.deliver()
        assert retry(operated, job_id).body == first.body
        operated.deliver()
        assert audit(operated) == [("retry", "jobs", job_id)]
        assert len(get(operated, "admin-list-jobs", status="completed").body["jobs"]) == 1

    def test_a_retry_that_fails_is_retried_by_its_own_name(self, operated: Service) -> None:
        job_id = failed_job(operated)
        second = retry(operated, job_id).body["ai_job_id"]
        operated.ai.script, script = fail, operated.ai.script
        operated.deliver()
        operated.ai.script = script
        assert job(operated, second)["status"] == "failed"
        assert retry(operated, job_id).body["ai_job_id"] == second
        third = retry(operated, second).body["ai_job_id"]
        operated.deliver()
        assert job(operated, third)["reply"]["content"] == f"{CANARY} help"

    def test_a_job_that_has_not_failed_is_not_retried(self, operated: Service) -> None:
        pending = operated.post({"history": f"<USER>{CANARY}</USER>"}).body["ai_job_id"]
        assert retry(operated, pending).status == 409
        operated.deliver()
        assert retry(operated, pending).status == 409
        assert audit(operated) == []

    @pytest.mark.parametrize("job_id", [UNKNOWN_JOB, CANARY])
    def test_an_unknown_one_is_not_found(self, operated: Service, job_id: str) -> None:
        assert retry(operated, job_id).status == 404

    def test_another_tenants_is_not_found(self, operated: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        job_id = failed_job(operated)
        with monkeypatch.context() as other:
            other.setattr("message_handler.http.identity.DEFAULT_PLATFORM", "other")
            assert retry(operated, job_id).status == 404
            assert get(operated, "admin-list-jobs").body["jobs"] == []
        assert retry(operated, job_id).status == 202

    def test_while_a_human_answers_it_waits_for_the_bot(self, operated: Service) -> None:
        job_id = failed_job(operated)
        handoff = operated.event("intake-handoff", pathParameters={"conversation_id": "conv_123"})
        operated.http("intake", handoff | {"body": '{"to": "human"}'})
        answer = retry(operated, job_id)
        assert (answer.status, answer.body["status"], answer.body["ai_job_id"]) == (202, "handed_off", None)
        assert retry(operated, job_id).body == answer.body
        back = operated.http("intake", handoff | {"body": '{"to": "bot"}'}).body["ai_job_id"]
        operated.deliver()
        assert job(operated, back)["reply"]["content"] == f"{CANARY} help"
        assert job(operated, job_id)["superseded_by"] == back

    def test_what_is_not_kept_any_more_can_not_be_asked_again(self, configured: Service, database: Database) -> None:
        job_id = failed_job(configured)
        database.run(lambda connection: connection.run("delete from turns"))
        answer = retry(configured, job_id)
        assert (answer.status, answer.body["field"]) == (409, "job_id")
        assert audit(configured) == []
        assert job(configured, job_id)["status"] == "failed"

    def test_without_postgres_it_is_503(self, service: Service) -> None:
        job_id = failed_job(service)
        service.use(archive=NoArchive())
        assert retry(service, job_id).status == 503


class TestAudit:
    def test_what_may_be_asked_for_is_what_is_configured_and_more(self) -> None:
        assert set(KINDS) < set(AUDITED)

    def test_each_change_is_there_with_who_and_what_and_without_secrets(self, configured: Service) -> None:
        put = configured.event("admin-put-core-ai")
        body = {"name": "GPT", "api_endpoint": "https://x.ai.example/v1", "meta_data": {"model": "gpt"}}

        def write(**changes: Any) -> None:
            answer = configured.http("admin", put | {"body": json.dumps(body | changes)})
            assert answer.status in (200, 201), answer.body

        write(auth_token=f"sk-{CANARY}-1")
        write(auth_token=f"sk-{CANARY}-2")
        write(auth_token="***", name="GPT 2")
        configured.http("admin", configured.event("admin-delete-core-ai"))
        answer = get(configured, "admin-list-audit", kind="core_ai")
        configured.output.assert_private(json.dumps(answer.body))
        entries = answer.body["entries"][::-1]
        assert [entry["action"] for entry in entries] == ["put", "put", "put", "delete"]
        assert {entry["actor"] for entry in entries} == {"anyone"}
        tokens = [[(entry[side] or {}).get("auth_token") for side in ("before", "after")] for entry in entries]
        assert tokens == [[None, "*** (new)"], ["***", "*** (new)"], ["***", "***"], ["***", None]]
        assert [entry["before"]["name"] for entry in entries[1:]] == ["GPT", "GPT", "GPT 2"]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["at"]) for entry in entries)

    def test_webhook_secrets_tell_which_of_them_is_new(self, configured: Service) -> None:
        import base64

        secrets = ["whsec_" + base64.b64encode(f"{CANARY}{n}".encode() * 4).decode() for n in range(2)]
        configured.output.private |= set(secrets)
        put = configured.event("admin-put-platform")

        def write(*values: str) -> None:
            body = {"name": "Clinic", "meta_data": {"webhook_secrets": list(values)}}
            assert configured.http("admin", put | {"body": json.dumps(body)}).status == 200

        write(secrets[0])
        write(secrets[1], "***")
        newest = get(configured, "admin-list-audit", kind="platforms").body["entries"][0]
        configured.output.assert_private(json.dumps(newest))
        assert newest["before"]["meta_data"]["webhook_secrets"] == ["***"]
        assert newest["after"]["meta_data"]["webhook_secrets"] == ["*** (new)", "***"]

    def test_a_change_that_is_refused_is_not_there(self, configured: Service) -> None:
        assert configured.http("admin", configured.event("admin-put-bot")).status == 400  # its AI core is not there
        assert configured.http("admin", configured.event("admin-delete-bot")).status == 404
        assert audit(configured) == []

    def test_what_operators_do_is_there_too(self, operated: Service) -> None:
        operated.post({"history": f"<USER>{CANARY}</USER>"})
        release = operated.event("admin-release-lock", pathParameters={"conversation_id": "conv_123"})
        assert operated.http("admin", release).status == 200
        assert operated.http("admin", release | {"pathParameters": {"conversation_id": "free"}}).status == 404
        operated.http("admin", operated.event("admin-cleanup-locks", body='{"max_age_hours": 2}'))
        operated.http("admin", operated.event("admin-cleanup-locks", body='{"max_age_hours": -1}'))
        operated.http("admin", operated.event("admin-redrive-dead-letters"))
        assert audit(operated) == [
            ("redrive", "dead_letters", "*"),
            ("cleanup", "locks", "*"),
            ("release", "locks", "conv_123"),
        ]
        assert audit(operated, kind="dead_letters") == [("redrive", "dead_letters", "*")]
        answer = get(operated, "admin-list-audit", kind="locks").body
        assert answer["entries"][0]["after"] == {"max_age_hours": 2}
        operated.output.assert_private(json.dumps(answer))

    def test_what_can_not_be_noted_is_not_done(self, service: Service) -> None:
        service.post({"history": f"<USER>{CANARY}</USER>"})
        service.parts.tiers.tiers[0].claim(KEY, "a worker")
        service.use(audit=NoAudit())
        release = service.event("admin-release-lock", pathParameters={"conversation_id": "conv_123"})
        for event in (
            release,
            service.event("admin-cleanup-locks", body='{"max_age_hours": 0}'),
            service.event("admin-redrive-dead-letters"),
            service.event("admin-list-audit"),
        ):
            assert service.http("admin", event).status == 503
        assert service.parts.tiers.tiers[0].look(KEY, "a worker") == "valid"

    def test_each_entry_is_on_one_page(self, operated: Service) -> None:
        for number in range(5):
            operated.parts.audit.note("default", AuditEntry("user:1", "release", "locks", f"c-{number}"))
        operated.parts.audit.note("other", AuditEntry("user:2", "release", "locks", "theirs"))
        found, more = [], {}
        while True:
            answer = get(operated, "admin-list-audit", limit="2", **more).body
            found += [entry["record_id"] for entry in answer["entries"]]
            if answer["next"] is None:
                break
            more = {"next": answer["next"]}
        assert found == [f"c-{number}" for number in (4, 3, 2, 1, 0)]

    def test_a_page_of_large_records_fits_into_one_answer(self, operated: Service) -> None:
        """Lambda answers with at most 6 MB. An entry that is larger than a page stands alone."""
        for size in (400_000, 400_000, 400_000, 2_000_000, 10):
            entry = AuditEntry("user:1", "put", "safety_rules", str(size), None, {"text": "x" * size})
            operated.parts.audit.note("default", entry)
        pages, more = [], {}
        while not pages or more["next"]:
            answer = get(operated, "admin-list-audit", **more).body
            pages.append([int(entry["record_id"]) for entry in answer["entries"]])
            more = {"next": answer["next"]}
        assert pages == [[10], [2_000_000], [400_000, 400_000], [400_000]]

    @pytest.mark.parametrize(("query", "field"), [({"kind": CANARY}, "kind"), ({"next": cursor("1")}, "next")], ids=str)
    def test_what_can_not_be_asked_is_named(self, service: Service, query: dict[str, str], field: str) -> None:
        answer = get(service, "admin-list-audit", **query)
        assert (answer.status, answer.body["field"]) == (400, field)


class TestRevisions:
    def put(self, service: Service, name: str, **headers: str) -> Answer:
        event = service.event("admin-put-core-ai")
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        event["headers"] = event["headers"] | names
        return service.http("admin", event | {"body": json.dumps({"name": name, "api_endpoint": "simulated://"})})

    def delete(self, service: Service, **headers: str) -> Answer:
        event = service.event("admin-delete-core-ai")
        event["headers"] = event["headers"] | {key.replace("_", "-"): value for key, value in headers.items()}
        return service.http("admin", event)

    def shown(self, service: Service) -> Answer:
        return service.http("admin", service.event("admin-get-core-ai"))

    def test_only_the_revision_that_was_seen_is_overwritten(self, configured: Service) -> None:
        created = self.put(configured, "one")
        tag = created.headers["ETag"]
        assert re.fullmatch(r'"\d+"', tag)
        assert self.shown(configured).headers["ETag"] == tag
        assert "revision" not in created.body
        changed = self.put(configured, "two", If_Match=tag)
        assert changed.status == 200
        assert changed.headers["ETag"] != tag
        refused = self.put(configured, "three", if_match=tag)
        assert (refused.status, refused.body["title"]) == (412, "Precondition Failed")
        assert self.delete(configured, If_Match=tag).status == 412
        assert self.shown(configured).body["name"] == "two"
        assert self.put(configured, "four").status == 200
        assert self.delete(configured, If_Match=self.shown(configured).headers["ETag"]).status == 200

    def test_a_record_that_was_deleted_and_written_anew_has_another_revision(self, configured: Service) -> None:
        tag = self.put(configured, "one").headers["ETag"]
        self.delete(configured)
        time.sleep(0.002)
        assert self.put(configured, "two").headers["ETag"] != tag
        assert self.put(configured, "three", If_Match=tag).status == 412

    def test_a_client_may_ask_for_a_new_record_or_an_existing_one(self, configured: Service) -> None:
        assert self.put(configured, "one", If_Match="*").status == 412
        assert self.put(configured, "one", If_None_Match="*").status == 201
        assert self.put(configured, "two", If_None_Match="*").status == 412
        assert self.put(configured, "two", If_Match="*").status == 200
        assert self.put(configured, "three", If_Match='W/"1"').status == 412
        assert self.put(configured, "three", If_None_Match='"1"').status == 400
        assert self.shown(configured).body["name"] == "two"

    def test_a_change_by_hand_is_a_change(self, configured: Service, database: Database) -> None:
        tag = self.put(configured, "one").headers["ETag"]
        database.run(lambda connection: connection.run("update core_ai set name = 'by hand'"))
        assert self.put(configured, "two", If_Match=tag).status == 412

    def test_what_deliveries_note_of_a_platform_is_none(self, configured: Service, database: Database) -> None:
        event = configured.event("admin-get-platform")
        tag = configured.http("admin", event).headers["ETag"]
        database.run(
            lambda connection: connection.run("update platforms set webhook_failures = 0, webhook_suspect = null")
        )
        assert configured.http("admin", event).headers["ETag"] == tag


class TestStatus:
    NOW = 1_000_000.0

    def lock(self, age: float, beat: float | None = None) -> Lock:
        at = self.NOW - age
        heartbeat = None if beat is None else self.NOW - beat
        return Lock(ConversationKey("default", "c"), KEY.new_job_id(), at, heartbeat, at + 300, 1, "redis")

    @pytest.mark.parametrize(
        ("locks", "finished", "state"),
        [
            ([], None, "idle"),
            ([(5, None)], None, "ok"),
            ([(61, None)], None, "silent"),
            ([(61, None), (80, 3)], None, "ok"),
            ([(61, None)], 20, "ok"),
            ([(61, None)], 61, "silent"),
            ([(20, 16)], None, "silent"),
            ([(20, 16), (20, 1)], None, "ok"),
            ([(20, 16)], 5, "ok"),
            (None, 5, "unknown"),
        ],
    )
    def test_the_worker_is_silent_where_patients_wait_in_vain(
        self, locks: list[tuple[float, float | None]] | None, finished: float | None, state: str
    ) -> None:
        found = None if locks is None else [self.lock(*lock) for lock in locks]
        last_end = None if finished is None else self.NOW - finished
        status = worker_status(found, last_end, Settings(), self.NOW)
        assert status["state"] == state
        if locks:
            assert status["running"] + status["waiting"] == len(locks)

    def test_a_silent_worker_makes_the_status_unhealthy(self, service: Service) -> None:
        service.post({"history": f"<USER>{CANARY}</USER>"})
        assert service.http("admin", service.event("admin-status")).body["worker"]["state"] == "ok"
        service.use(settings=service.parts.settings.model_copy(update={"wake_after": 0.0}))
        status = service.http("admin", service.event("admin-status")).body
        assert (status["status"], status["worker"]["state"], status["worker"]["waiting"]) == ("unhealthy", "silent", 1)
        assert service.http("admin", service.event("admin-health")).body == {"status": "up"}  # messages are taken
        service.deliver()
        status = service.http("admin", service.event("admin-status")).body
        assert (status["status"], status["worker"]["state"]) == ("healthy", "idle")
        assert status["worker"]["last_finished_at"]

    def test_what_is_away_is_unknown_and_hides_nothing_else(self, service: Service) -> None:
        service.queue.error = Unavailable("the queue")
        service.use(archive=NoArchive())
        status = service.http("admin", service.event("admin-status")).body
        assert status["status"] == "unhealthy"
        assert status["queue"] == {"visible": None, "in_flight": None, "delayed": None, "dead_letters": None}
        assert (status["tiers"], status["worker"]["state"]) == ({"memory": "up"}, "idle")
