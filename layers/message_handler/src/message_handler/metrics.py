"""What is measured. The functions publish it; a program that uses the library may read it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Literal

Unit = Literal["Count", "Milliseconds", "None"]

#: Every metric with its unit. docs/monitoring.md says what each means. No dimension names a patient.
UNITS: dict[str, Unit] = {
    "MessagesAccepted": "Count",
    "MessagesConsolidated": "Count",
    "MessagesDuplicate": "Count",
    "MessagesRejected": "Count",
    "MessagesThrottled": "Count",
    "PlatformMessages": "Count",
    "RequestsThrottled": "Count",
    "WaitsRefused": "Count",
    "SafetyNotices": "Count",
    "SafetyUntaken": "None",
    "SafetyUnconfigured": "Count",
    "SafetyReviewOld": "None",
    "RepliesRefused": "Count",
    "TimeToLock": "Milliseconds",
    "QueueWait": "Milliseconds",
    "AITime": "Milliseconds",
    "AINotConfigured": "Count",
    "TimeToReply": "Milliseconds",
    "JobsCompleted": "Count",
    "JobsFailed": "Count",
    "JobsCancelled": "Count",
    "JobsInterrupted": "Count",
    "AICallsSaved": "Count",
    "InputTokens": "Count",
    "OutputTokens": "Count",
    "JobsFencedOut": "Count",
    "JobsRecovered": "Count",
    "RepliesUnarchived": "Count",
    "RepliesInConflict": "Count",
    "RecordsPoisoned": "Count",
    "RecordsRedriven": "Count",
    "ConversationsSwept": "Count",
    "ConversationsPurged": "Count",
    "DeliveriesPurged": "Count",
    "DeliveriesSucceeded": "Count",
    "DeliveriesFailed": "Count",
    "DeliveriesDead": "Count",
    "TimeToDeliver": "Milliseconds",
    "StoresReadOnly": "None",
    "Tier": "None",
    "RefusedForToken": "Count",
    "RefusedForScope": "Count",
    "RefusedForTenant": "Count",
}

#: The tenants that one process names in metrics. Each name is a metric of its own to CloudWatch, and costs.
MOST_PLATFORMS = 100
#: Stands for all further tenants. No tenant's id has a space.
OTHER_PLATFORMS = "all others"

#: The value of `Tier`: its maximum over a period is the worst tier that was in use.
TIER_VALUES = {"redis": 0, "postgres": 1, "memory": 2}


class Meter:
    """Collects values from all threads until they are published."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._values: list[tuple[str, float]] = []
        self._platforms: set[str] = set()
        self._used: Counter[str] = Counter()

    def use(self, platform_id: str, messages: int) -> None:
        """Count messages of a tenant: how much of the service it uses."""
        with self._mutex:
            if len(self._platforms) < MOST_PLATFORMS:
                self._platforms.add(platform_id)
            self._used[platform_id if platform_id in self._platforms else OTHER_PLATFORMS] += messages

    def publish_use(self, add: Callable[[str, int], None]) -> None:
        """Call `add` with each tenant that has sent messages since the last call, and their number."""
        with self._mutex:
            taken, self._used = self._used, Counter()
        for platform_id, messages in taken.items():
            add(platform_id, messages)

    def add(self, name: str, value: float = 1) -> None:
        """Add a value; `name` is one of UNITS. If 10,000 values wait to be published, the older half is dropped."""
        assert name in UNITS, name
        with self._mutex:
            if len(self._values) >= 10_000:
                del self._values[:5_000]
            self._values.append((name, value))

    def publish(self, add: Callable[[str, Unit, float], None]) -> None:
        """Call `add` with name, unit and value of all that was added since the last call."""
        with self._mutex:
            taken, self._values = self._values, []
        for name, value in taken:
            add(name, UNITS[name], value)
