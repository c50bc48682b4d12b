"""The alarms would ring, for the metrics that the functions print and for the metrics that AWS has.

No simulator evaluates alarms as CloudWatch does. So tests provoke the conditions of our own metrics with the real
functions, and put the printed values into the alarm's expression. For AWS' metrics, names and dimensions are compared
with a table from AWS' documentation.
"""

from __future__ import annotations

import json
import logging
import operator
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from local.intrinsics import Resolver
from local.stores import Server
from message_handler.ai.failures import ProviderFailure
from message_handler.archive.none import NoArchive, NoConfiguration
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_outbox import PostgresOutbox
from message_handler.delivery.deliveries import OVERDUE_SECONDS, Deliveries
from message_handler.domain.errors import Unavailable
from message_handler.drivers.egress import Egress
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.secrets import Secrets
from message_handler.metrics import UNITS, Meter
from message_handler.operations import handoff, sweeping
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from tests.contract.conversation import raised
from tests.contract.receiver import Receiver
from tests.servers import ALL_TAKEN, emptied
from tests.template import conftest
from tests.template.conftest import Expanded
from tests.unit.service import (
    CANARY,
    FUNCTIONS,
    KEY,
    HeldQueue,
    Output,
    ScriptedAI,
    Service,
    load_function,
    parts_of,
    quote,
)
from tests.unit.test_failover import Away, tier

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
DAY = 24 * 3600
#: The namespace of our own metrics, as in the functions' environment.
NAMESPACE = "MessageHandler/local"
COMPARE = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanOrEqualToThreshold": operator.le,
    "LessThanThreshold": operator.lt,
}
STATISTICS: dict[str, Callable[[list[float]], float]] = {"Sum": sum, "Maximum": max, "SampleCount": len}

#: AWS' metrics, by namespace and name: the dimensions, and the page of AWS' documentation.
AWS_METRICS = {
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): ({"QueueName"}, "Available CloudWatch metrics for Amazon SQS"),
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): ({"QueueName"}, "Available CloudWatch metrics for Amazon SQS"),
    ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible"): (
        {"QueueName"},
        "Available CloudWatch metrics for Amazon SQS",
    ),
    ("AWS/Lambda", "Errors"): ({"FunctionName"}, "Types of metrics for Lambda functions"),
    ("AWS/Lambda", "Throttles"): ({"FunctionName"}, "Types of metrics for Lambda functions"),
    ("AWS/ApiGateway", "5XXError"): ({"ApiName", "Stage"}, "Amazon API Gateway dimensions and metrics"),
    ("AWS/RDS", "CPUUtilization"): ({"DBInstanceIdentifier"}, "Amazon CloudWatch metrics for Amazon RDS"),
    ("AWS/RDS", "FreeableMemory"): ({"DBInstanceIdentifier"}, "Amazon CloudWatch metrics for Amazon RDS"),
    ("AWS/RDS", "FreeStorageSpace"): ({"DBInstanceIdentifier"}, "Amazon CloudWatch metrics for Amazon RDS"),
    # The sum over all hosts of the proxy, which share ProxyName.
    ("AWS/RDS", "DatabaseConnectionsCurrentlySessionPinned"): (
        {"ProxyName"},
        "Monitoring RDS Proxy metrics with Amazon CloudWatch",
    ),
    ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage"): ({"CacheClusterId"}, "Metrics for Valkey and Redis OSS"),
    ("AWS/ElastiCache", "EngineCPUUtilization"): ({"CacheClusterId"}, "Metrics for Valkey and Redis OSS"),
}


@dataclass(frozen=True)
class Measured:
    """One metric of an alarm."""

    namespace: str
    name: str
    dimensions: dict[str, str]
    statistic: str


def alarms(expanded: Expanded) -> dict[str, dict[str, Any]]:
    return expanded.resolved("AWS::CloudWatch::Alarm")


def measured(alarm: dict[str, Any]) -> dict[str, Measured]:
    """The alarm's metrics by their ids in its expression. Without an expression there is one, `watched`."""
    if "MetricName" in alarm:
        dimensions = {it["Name"]: it["Value"] for it in alarm["Dimensions"]}
        return {"watched": Measured(alarm["Namespace"], alarm["MetricName"], dimensions, alarm["Statistic"])}
    found = {}
    for query in alarm["Metrics"]:
        if "MetricStat" in query:
            metric = query["MetricStat"]["Metric"]
            dimensions = {it["Name"]: it["Value"] for it in metric["Dimensions"]}
            found[query["Id"]] = Measured(
                metric["Namespace"], metric["MetricName"], dimensions, query["MetricStat"]["Stat"]
            )
    return found


def expression(alarm: dict[str, Any]) -> str:
    (found,) = [query["Expression"] for query in alarm.get("Metrics", ()) if "Expression" in query] or ["watched"]
    return str(found)


def kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


class TestEveryAlarm:
    def test_notifies_when_it_begins_and_when_it_ends(self, expanded: Expanded) -> None:
        topic = [{"Ref": "AlarmTopic"}]
        for alarm in expanded.of_type("AWS::CloudWatch::Alarm").values():
            assert alarm["AlarmActions"] == alarm["OKActions"] == topic
            assert alarm.get("ActionsEnabled", True) is True

    def test_says_what_is_wrong_and_where_to_read_on(self, expanded: Expanded) -> None:
        pages = {}
        for name, alarm in alarms(expanded).items():
            found = re.fullmatch(r"[A-Z'].{20,}\. See docs/operations\.md#([a-z0-9-]+)", alarm["AlarmDescription"])
            assert found, name
            pages[name] = found[1]
        assert pages == {name: kebab(name.removesuffix("Alarm")) for name in alarms(expanded)}

    def test_has_its_page(self, expanded: Expanded) -> None:
        headings = re.findall(r"^#+ (.+)$", OPERATIONS.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
        assert {kebab(name.removesuffix("Alarm")) for name in alarms(expanded)} <= anchors

    def test_has_thought_of_silence(self, expanded: Expanded) -> None:
        """Without messages there are no measurements, and no alarm. Only the sweep always runs: its silence rings."""
        breaching = {name for name, alarm in alarms(expanded).items() if alarm["TreatMissingData"] == "breaching"}
        others = {alarm["TreatMissingData"] for name, alarm in alarms(expanded).items() if name not in breaching}
        assert (breaching, others) == ({"SweepStoppedAlarm"}, {"notBreaching"})

    def test_rings_within_a_quarter_of_an_hour(self, expanded: Expanded) -> None:
        for name, alarm in alarms(expanded).items():
            periods = {query["MetricStat"]["Period"] for query in alarm.get("Metrics", ()) if "MetricStat" in query}
            (period,) = periods or {alarm["Period"]}
            assert alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"]
            assert period * alarm["DatapointsToAlarm"] <= 900, name

    def test_of_aws_metrics_names_what_aws_has(self, expanded: Expanded) -> None:
        used = set()
        for name, alarm in alarms(expanded).items():
            for metric in measured(alarm).values():
                if metric.namespace != NAMESPACE:
                    dimensions, page = AWS_METRICS[metric.namespace, metric.name]
                    assert metric.dimensions.keys() == dimensions, (name, page)
                    used.add((metric.namespace, metric.name))
        assert used == AWS_METRICS.keys()

    def test_of_aws_metrics_names_resources_of_this_stack(self, expanded: Expanded) -> None:
        names = {
            "QueueName": {"JobQueue", "DeliveryQueue", "DeadLetterQueue"},
            "FunctionName": conftest.FUNCTIONS,
            "ApiName": {"local"},  # SAM gives the API the stack's name
            "Stage": {"v1"},
            "DBInstanceIdentifier": {"Database"},
            "ProxyName": {"DatabaseProxy"},
            "CacheClusterId": {"Cache-001", "Cache-002"},  # a replication group's members
        }
        (api,) = expanded.of_type("AWS::ApiGateway::RestApi").values()
        assert api["Body"]["info"]["title"] == {"Ref": "AWS::StackName"}
        for alarm in alarms(expanded).values():
            for metric in measured(alarm).values():
                if metric.namespace != NAMESPACE:
                    assert all(value in names[name] for name, value in metric.dimensions.items())

    def test_of_a_deployment_takes_it_back(self, expanded: Expanded) -> None:
        groups = expanded.resolved("AWS::CodeDeploy::DeploymentGroup")
        assert len(groups) == 4
        for name, group in groups.items():
            function = name.removesuffix("DeploymentGroup")
            assert group["AutoRollbackConfiguration"]["Enabled"] is True
            assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
            (alarm,) = group["AlarmConfiguration"]["Alarms"]
            watched = [(it.name, it.dimensions) for it in measured(alarms(expanded)[alarm["Name"]]).values()]
            assert watched == [("Errors", {"FunctionName": function})]


def test_what_the_issue_asks_for_is_watched(expanded: Expanded) -> None:
    watched = {metric.name for alarm in alarms(expanded).values() for metric in measured(alarm).values()}
    assert watched >= {
        "ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible", "Errors", "Throttles", "Tier",
        "DeliveriesFailed", "DeliveriesDead", "DatabaseConnectionsCurrentlySessionPinned",
        "DatabaseMemoryUsagePercentage", "EngineCPUUtilization", "CPUUtilization", "FreeableMemory", "FreeStorageSpace",
    }  # fmt: skip


def test_without_stores_of_the_stack_there_are_no_alarms_on_them(expanded: Expanded) -> None:
    found = expanded.resolved("AWS::CloudWatch::Alarm", CreateRedis="false", CreateDatabase="false")
    assert not [name for name in found if name.startswith(("Cache", "Database", "Pinned"))]
    assert {"OldestMessageAlarm", "DegradedAlarm"} <= found.keys()


# ── Our own metrics: provoked ────────────────────────────────────────────────────────────────────


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[Output]:
    output = Output(capsys, caplog)
    yield output
    output.assert_private()


@pytest.fixture
def service(output: Output, expanded: Expanded, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The four functions, with the namespace and service from the template's environment."""
    queue, ai, meter = HeldQueue(), ScriptedAI(quote), Meter()
    parts = parts_of(Settings(auth_required=False), queue, ai, meter=meter)
    only_redis = MemoryTier(Settings())
    only_redis.name = "redis"  # type: ignore[assignment]
    tiers = Failover(only_redis)
    service = Service(output, parts, queue, ai, meter)
    service.use(
        tiers=tiers,
        intake=replace(parts.intake, tiers=tiers),
        worker=replace(parts.worker, tiers=tiers, archive=parts.archive),
    )
    layer = logging.getLogger("message_handler")
    before = (layer.handlers, layer.level, layer.propagate)
    functions = expanded.resolved("AWS::Lambda::Function")
    for name in FUNCTIONS:
        variables = functions[f"{name.capitalize()}Function"]["Environment"]["Variables"]
        for variable in ("POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_SERVICE_NAME"):
            monkeypatch.setenv(variable, variables[variable])
        service.functions[name] = load_function(name)
        monkeypatch.setattr(service.functions[name], "parts", lambda: service.parts)
        monkeypatch.setattr(service.functions[name], "meter", service.meter)
    yield service
    layer.handlers, layer.propagate = before[0], before[2]
    layer.setLevel(before[1])


@dataclass
class Delivering:
    """The service with a Postgres, a platform, and a clock for deliveries."""

    service: Service
    receiver: Receiver
    database: Database
    late: float = 0.0

    def answer_a_message(self) -> None:
        """Answer one message, and try once to deliver the reply."""
        self.service.post({"history": f"<USER>{CANARY}</USER><br>", "message_id": "m-1"})
        self.service.deliver()
        self.service.deliver()


@pytest.fixture
def delivering(service: Service, postgres: Server) -> Iterator[Delivering]:
    database = Database(connector(Settings(database_url=SecretStr(postgres.url), database_timeout=30)))
    database.migrate()
    tables = ("conversations", "outbox", "jobs", "settled", "turns")
    clean = f"{emptied(*tables)}; {ALL_TAKEN}; update platforms set meta_data = '{{}}', base_url = null"
    database.run(lambda connection: connection.execute_simple(clean))
    receiver = Receiver()
    secret = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
    configure = (
        f"update platforms set base_url = '{receiver.url}', meta_data = '{{\"webhook_secrets\": [\"{secret}\"]}}'"
        " where platform_id = 'default'"
    )
    database.run(lambda connection: connection.execute_simple(configure))
    archive = PostgresArchive(database)
    delivering = Delivering(service, receiver, database)
    deliveries = Deliveries(
        PostgresOutbox(database), service.queue, Egress((), allow_loopback=True), Secrets(literals=True),
        lambda: time.time() + delivering.late, service.meter,
    )  # fmt: skip
    worker = replace(service.parts.worker, archive=archive, deliveries=deliveries)
    intake = replace(service.parts.intake, archive=archive)
    service.use(archive=archive, worker=worker, intake=intake, deliveries=deliveries)
    yield delivering
    receiver.stops()
    database.run(lambda connection: connection.execute_simple(clean))
    database.close()


def rings(alarm: dict[str, Any], output: Output) -> bool:
    """Whether all that was printed, taken as one period, crosses the alarm's threshold."""
    values: dict[str, float | None] = {}
    for id_, metric in measured(alarm).items():
        found = list(_values(metric, output))
        values[id_] = STATISTICS[metric.statistic](found) if found else None
    functions = {"FILL": lambda value, other: other if value is None else value, "MAX": max}
    value = eval(expression(alarm), functions, values)  # the template's own sums
    if value is None:
        return bool(alarm["TreatMissingData"] == "breaching")
    return bool(COMPARE[alarm["ComparisonOperator"]](value, float(alarm["Threshold"])))


def _values(metric: Measured, output: Output) -> Iterator[float]:
    """The values that CloudWatch would store under this namespace, name and exactly these dimensions."""
    for line in output.lines:
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
            for dimensions in directive["Dimensions"]:
                filed = {name: line[name] for name in dimensions}
                if directive["Namespace"] == metric.namespace and filed == metric.dimensions:
                    named = {it["Name"] for it in directive["Metrics"]}
                    yield from line[metric.name] if metric.name in named else ()


def own(expanded: Expanded) -> dict[str, dict[str, Any]]:
    return {
        name: alarm
        for name, alarm in alarms(expanded).items()
        if {metric.namespace for metric in measured(alarm).values()} == {NAMESPACE}
    }


PROVOKED = {
    "DegradedAlarm", "PostgresAwayAlarm", "JobsFailedAlarm", "DeliveriesFailingAlarm", "DeliveriesDeadAlarm",
    "SweepStoppedAlarm", "SafetyUntakenAlarm", "SafetyReviewAlarm",
}  # fmt: skip


class TestOwnMetrics:
    def test_each_alarm_on_our_metrics_is_provoked_below(self, expanded: Expanded) -> None:
        assert own(expanded).keys() == PROVOKED
        assert all(metric.name in UNITS for alarm in own(expanded).values() for metric in measured(alarm).values())

    def test_no_alarm_rings_while_all_is_well(self, expanded: Expanded, delivering: Delivering) -> None:
        delivering.answer_a_message()
        delivering.service.invoke("admin", {"action": "sweep"})
        metrics = delivering.service.output.metrics
        assert (metrics["JobsCompleted"], metrics["DeliveriesSucceeded"]) == ([1], [1])
        assert {name for name, alarm in own(expanded).items() if rings(alarm, delivering.service.output)} == set()

    @pytest.mark.parametrize("name", ["postgres", "memory"])
    def test_a_request_on_a_lower_tier(self, expanded: Expanded, service: Service, name: str) -> None:
        lower = MemoryTier(Settings())
        lower.name = name  # type: ignore[assignment]
        tiers = Failover(lower)
        service.use(tiers=tiers, intake=replace(service.parts.intake, tiers=tiers))
        service.post({"history": f"<USER>{CANARY}</USER><br>"})
        assert rings(own(expanded)["DegradedAlarm"], service.output)

    def test_a_run_on_a_lower_tier(self, expanded: Expanded, service: Service) -> None:
        service.post({"history": f"<USER>{CANARY}</USER><br>"})
        assert not rings(own(expanded)["DegradedAlarm"], service.output)
        lower = MemoryTier(Settings())
        lower.name = "postgres"  # type: ignore[assignment]
        service.use(worker=replace(service.parts.worker, tiers=Failover(lower)))
        service.deliver()
        assert rings(own(expanded)["DegradedAlarm"], service.output)

    def test_a_reply_without_postgres(self, expanded: Expanded, service: Service) -> None:
        gone = NoArchive()
        gone.name = "postgres"  # it is configured, and does not answer
        service.use(worker=replace(service.parts.worker, archive=gone))
        service.post({"history": f"<USER>{CANARY}</USER><br>"})
        service.deliver()
        assert rings(own(expanded)["PostgresAwayAlarm"], service.output)

    def test_an_ai_that_gives_no_answers(self, expanded: Expanded, service: Service) -> None:
        def fails(*_: object) -> str:
            raise ProviderFailure("ai_unavailable")

        service.ai.script = fails
        alarm = own(expanded)["JobsFailedAlarm"]
        for number in range(int(alarm["Threshold"])):
            assert not rings(alarm, service.output)
            service.post({"history": f"<USER>{CANARY}</USER><br>"}, conversation_id=f"conv_{number}")
            service.deliver()
        assert rings(alarm, service.output)

    @pytest.mark.parametrize("minutes", [10, 0])
    def test_danger_that_no_person_takes(self, expanded: Expanded, service: Service, minutes: int) -> None:
        alarm = own(expanded)["SafetyUntakenAlarm"]
        found = raised(raised_at=time.time() - 599)
        service.parts.archive.note_raised(found)
        service.use(settings=Settings(auth_required=False, safety_remind_minutes=minutes))
        service.invoke("admin", {"action": "sweep"})
        assert not rings(alarm, service.output)
        service.parts.archive.note_raised(replace(found, job_id=KEY.new_job_id(), raised_at=time.time() - 601))
        service.invoke("admin", {"action": "sweep"})
        assert rings(alarm, service.output) is (minutes > 0)

    def test_a_platform_that_takes_nothing(self, expanded: Expanded, delivering: Delivering) -> None:
        delivering.receiver.answers(500)
        delivering.answer_a_message()
        assert rings(own(expanded)["DeliveriesFailingAlarm"], delivering.service.output)
        assert not rings(own(expanded)["DeliveriesDeadAlarm"], delivering.service.output)

    def test_a_platform_that_is_gone(self, expanded: Expanded, delivering: Delivering) -> None:
        delivering.receiver.answers(410)
        delivering.answer_a_message()
        assert rings(own(expanded)["DeliveriesDeadAlarm"], delivering.service.output)

    def test_a_reply_that_never_had_its_turn(self, expanded: Expanded, delivering: Delivering) -> None:
        """The sweep in the admin function gives it up."""
        delivering.service.post({"history": f"<USER>{CANARY}</USER><br>", "message_id": "m-1"})
        delivering.service.deliver()
        delivering.late = DAY + OVERDUE_SECONDS + 1
        delivering.service.invoke("admin", {"action": "sweep"})
        assert rings(own(expanded)["DeliveriesDeadAlarm"], delivering.service.output)

    @pytest.mark.parametrize("reviews", [0, 1])
    def test_contacts_that_were_reviewed_long_ago(
        self, expanded: Expanded, service: Service, monkeypatch: pytest.MonkeyPatch, reviews: int
    ) -> None:
        monkeypatch.setattr(NoConfiguration, "old_reviews", lambda *_: reviews)
        service.invoke("admin", {"action": "sweep"})
        assert rings(own(expanded)["SafetyReviewAlarm"], service.output) is bool(reviews)

    def test_a_sweep_that_does_not_come_to_its_end(
        self, expanded: Expanded, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alarm = own(expanded)["SweepStoppedAlarm"]
        assert rings(alarm, service.output)  # none has run

        def fails(*_: object, **__: object) -> int:
            raise Unavailable("Redis")

        with monkeypatch.context() as broken:
            broken.setattr(sweeping, "sweep", fails)
            with pytest.raises(Unavailable):
                service.invoke("admin", {"action": "sweep"})
        assert rings(alarm, service.output)
        service.invoke("admin", {"action": "sweep"})
        assert not rings(alarm, service.output)

    @pytest.mark.parametrize(("redis", "postgres"), [("up", "away"), ("away", "up"), ("away", "away")])
    def test_a_sweep_that_finds_no_store_at_all(
        self, expanded: Expanded, service: Service, redis: str, postgres: str
    ) -> None:
        """With one store, the sweep does a part of its work and reports the rest."""
        kinds = {"up": MemoryTier, "away": Away}
        service.use(tiers=Failover(tier("redis", kinds[redis]), tier("postgres", kinds[postgres]), tier("memory")))
        away = {name: name for name, state in (("redis", redis), ("postgres", postgres)) if state == "away"}
        if len(away) == 2:
            with pytest.raises(Unavailable, match="every store"):
                service.invoke("admin", {"action": "sweep"})
        else:
            assert service.invoke("admin", {"action": "sweep"}) == {"swept": 0, "left": away}
        assert rings(own(expanded)["SweepStoppedAlarm"], service.output) is (len(away) == 2)

    def test_a_sweep_without_the_archive_wakes_what_waits(
        self, expanded: Expanded, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service.post({"history": f"<USER>{CANARY}</USER><br>", "debounce_ms": 0})
        service.parts.tiers.tiers[0].claim(KEY, "a worker")

        def fails(*_: object) -> int:
            raise Unavailable("Postgres")

        monkeypatch.setattr(handoff, "unpark_the_rest", fails)
        outcome = service.invoke("admin", {"action": "sweep", "max_age_hours": 0})
        assert outcome == {"swept": 1, "left": {"hand_backs": "Postgres"}}
        assert not rings(own(expanded)["SweepStoppedAlarm"], service.output)


def test_the_dashboard_shows_metrics_that_exist(expanded: Expanded) -> None:
    (dashboard,) = expanded.of_type("AWS::CloudWatch::Dashboard").values()
    body = json.loads(Resolver(expanded.document, {}, "https://sqs/").resolve(dashboard["DashboardBody"]))
    shown = [metric for widget in body["widgets"] for metric in widget["properties"]["metrics"]]
    ours = {metric[1] for metric in shown if metric[0] == NAMESPACE}
    assert ours <= UNITS.keys()
    assert ours >= {"TimeToReply", "QueueWait", "AITime", "MessagesAccepted", "JobsCompleted", "InputTokens", "Tier"}
    assert {metric[3] for metric in shown if metric[0] == NAMESPACE} == {"intake", "worker"}
