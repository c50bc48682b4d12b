"""The intake function: serves the routes for chat platforms."""

# ruff: noqa: E402
from __future__ import annotations

import gc

gc.disable()  # until `prepare`: a cold start is 10 % faster without it

import warnings
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from message_handler.cold_start import prepare
from message_handler.domain.conversations import conversation_key
from message_handler.domain.errors import Rejected, RequestError, Unavailable
from message_handler.http.rest import Call, correlation_id_of, serve
from message_handler.intake.requests import parse_request
from message_handler.intake.responses import rejection
from message_handler.metrics import Meter
from message_handler.wiring import IntakeParts, build_intake

logger = Logger()
metrics = Metrics()
meter = Meter()
copy_config_to_registered_loggers(logger, include={"message_handler"})
warnings.filterwarnings("ignore", "No application metrics to publish")  # most calls have none

#: The scope that a token needs for each route.
SCOPE: Final = "messages"


@cache
def parts() -> IntakeParts:
    return build_intake(deployed=True, meter=meter)


# All routes but `post_message` import what only they need when they are called: most cold starts serve a message.


def post_message(call: Call) -> tuple[int, dict[str, Any]]:
    try:
        key = conversation_key(call.path("conversation_id"), call.platform_id)
        request = parse_request(call.body(), newest=parts().settings.history_turns)
        result = parts().intake.handle(key, request, correlation_id=call.correlation_id)
    except Rejected as rejected:
        meter.add("MessagesRejected")
        logger.info("rejected", extra={"ai_job_id": rejected.job_id})
        return HTTPStatus.CONFLICT, rejection(rejected)
    except (RequestError, Unavailable):
        meter.add("MessagesRejected")
        raise
    logger.info("accepted", extra={name: result.get(name) for name in ("ai_job_id", "action", "consolidated_messages")})
    return HTTPStatus.ACCEPTED, result


def delete_message(call: Call) -> tuple[int, dict[str, Any]]:
    from message_handler.intake.unsending import unsend

    built, key = parts(), conversation_key(call.path("conversation_id"), call.platform_id)
    built.intake.shares.take(key.platform_id, "cancels")
    return HTTPStatus.OK, unsend(built.tiers, built.archive, built.queue, key, call.path("message_id"))


def get_conversation(call: Call) -> tuple[int, dict[str, Any]]:
    from message_handler.http.conversation import conversation_view

    key = conversation_key(call.path("conversation_id"), call.platform_id)
    parts().intake.shares.take(key.platform_id, "reads")
    return HTTPStatus.OK, conversation_view(parts().tiers, parts().archive, key)


def post_handoff(call: Call) -> tuple[int, dict[str, Any]]:
    from message_handler.operations import handoff

    built, key = parts(), conversation_key(call.path("conversation_id"), call.platform_id)
    to_human = handoff.parse_handoff(call.body())
    built.intake.shares.take(key.platform_id, "handoffs")
    if to_human:
        return HTTPStatus.OK, handoff.hand_off(built.tiers, built.archive, built.queue, key)
    resumed = handoff.resume(built.tiers, built.archive, built.intake.accept, key, correlation_id=call.correlation_id)
    return HTTPStatus.OK, resumed


def delete_job(call: Call) -> tuple[int, dict[str, Any]]:
    from message_handler.jobs import BackgroundJobManager

    built = parts()
    jobs = BackgroundJobManager(built.tiers, built.archive, built.queue, built.intake, platform_id=call.platform_id)
    built.intake.shares.take(call.platform_id, "cancels")
    return HTTPStatus.OK, jobs.view(jobs.cancel(call.path("job_id")))


def print_use(platform_id: str, messages: int) -> None:
    """Print a tenant's messages apart from the other metrics, which have no tenant."""
    with single_metric(name="PlatformMessages", unit=MetricUnit.Count, value=messages) as metric:
        metric.add_dimension("platform", platform_id)


ROUTES = {
    ("POST", "/conversations/{conversation_id}/messages"): post_message,
    ("DELETE", "/conversations/{conversation_id}/messages/{message_id}"): delete_message,
    ("GET", "/conversations/{conversation_id}"): get_conversation,
    ("POST", "/conversations/{conversation_id}/handoff"): post_handoff,
    ("DELETE", "/jobs/{job_id}"): delete_job,
}


@logger.inject_lambda_context(log_event=False)  # even if the environment asks for it: events hold patients' words
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    logger.set_correlation_id(correlation_id_of(event) or context.aws_request_id)
    try:
        return serve(ROUTES, event, lambda: parts().settings, scope=SCOPE, meter=meter)
    finally:
        meter.publish(metrics.add_metric)
        meter.publish_use(print_use)


prepare(parts)
