"""The status function: shows jobs, and waits for their ends. So no client that waits keeps a message from intake."""

# ruff: noqa: E402
from __future__ import annotations

import gc

gc.disable()  # until `prepare`, as in intake

import re
import warnings
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers

from message_handler.cold_start import prepare
from message_handler.domain.errors import InvalidRequest
from message_handler.http.rest import Answer, Call, correlation_id_of, serve
from message_handler.http.waiting import Place
from message_handler.jobs import BackgroundJobManager
from message_handler.metrics import Meter
from message_handler.wiring import IntakeParts, build_intake

logger = Logger()
metrics = Metrics()
meter = Meter()
copy_config_to_registered_loggers(logger, include={"message_handler"})
warnings.filterwarnings("ignore", "No application metrics to publish")  # most calls have none

#: The scope that a token needs for each route.
SCOPE: Final = "messages"
MAX_WAIT_SECONDS = 25
#: When a client that may not wait should ask again.
RETRY_SECONDS = 2


@cache
def parts() -> IntakeParts:
    return build_intake(deployed=True, meter=meter)


def get_job(call: Call) -> Answer:
    wait = call.query("wait")
    wait = "0" if wait is None else wait
    if not re.fullmatch(r"[0-9]{1,2}", wait) or int(wait) > MAX_WAIT_SECONDS:
        raise InvalidRequest(f"must be a whole number of seconds from 0 to {MAX_WAIT_SECONDS}", field="wait")
    built = parts()
    jobs = BackgroundJobManager(built.tiers, built.archive, built.queue, built.intake, platform_id=call.platform_id)
    place = Place(built.tiers, built.settings, call.platform_id)
    seconds = min(int(wait), built.settings.max_wait_seconds)
    built.intake.shares.take(call.platform_id, "waits" if seconds else "reads")
    shown = jobs.wait_for(call.path("job_id"), seconds, call.query("message_id"), place=place)
    if not place.refused:
        return HTTPStatus.OK, shown
    meter.add("WaitsRefused")
    return HTTPStatus.OK, shown, {"Retry-After": str(RETRY_SECONDS)}


ROUTES = {("GET", "/jobs/{job_id}"): get_job}


@logger.inject_lambda_context(log_event=False)  # even if the environment asks for it: events hold patients' words
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    logger.set_correlation_id(correlation_id_of(event) or context.aws_request_id)
    try:
        return serve(ROUTES, event, lambda: parts().settings, scope=SCOPE, meter=meter)
    finally:
        meter.publish(metrics.add_metric)


prepare(parts)
