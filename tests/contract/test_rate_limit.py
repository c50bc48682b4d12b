"""A tenant's rate limit, on every tier: a minute's messages at once, then one after the other."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from message_handler.ports.tier import Tier
from message_handler.settings import Settings
from message_handler.tiers.buckets import Buckets
from message_handler.tiers.redis import RedisTier
from tests.contract.chat import Clock

CLINIC = "clinic-a"


def admitted(tier: Tier, times: int, per_minute: int, platform_id: str = CLINIC) -> int:
    return sum(tier.admit(platform_id, per_minute) == 0 for _ in range(times))


class TestEveryTier:
    def test_a_minutes_messages_may_come_at_once_and_no_more(self, tier: Tier) -> None:
        assert admitted(tier, 40, 30) == 30

    def test_a_client_that_waits_as_long_as_told_is_admitted_once(self, tier: Tier, clock: Clock) -> None:
        assert admitted(tier, 7, 7) == 7
        wait = tier.admit(CLINIC, 7)
        assert wait == pytest.approx(60 / 7)
        clock.now += wait / 2
        assert tier.admit(CLINIC, 7) == pytest.approx(wait / 2)
        clock.now += wait / 2
        assert admitted(tier, 3, 7) == 1

    def test_several_messages_are_taken_together_or_not_at_all(self, tier: Tier, clock: Clock) -> None:
        assert tier.admit(CLINIC, 10, 7) == 0
        assert tier.admit(CLINIC, 10, 4) == pytest.approx(6)
        assert tier.admit(CLINIC, 10, 3) == 0
        clock.now += 24
        assert tier.admit(CLINIC, 10, 4) == 0

    def test_more_messages_than_a_minutes_take_all_of_them(self, tier: Tier, clock: Clock) -> None:
        assert tier.admit(CLINIC, 10, 25) == 0
        assert tier.admit(CLINIC, 10, 25) == pytest.approx(60)
        clock.now += 60
        assert tier.admit(CLINIC, 10, 25) == 0

    def test_a_refusal_costs_nothing(self, tier: Tier, clock: Clock) -> None:
        admitted(tier, 2, 1)
        for _ in range(100):
            tier.admit(CLINIC, 1)
        clock.now += 60
        assert tier.admit(CLINIC, 1) == 0

    def test_a_quiet_minute_fills_it_and_a_quiet_day_no_further(self, tier: Tier, clock: Clock) -> None:
        for quiet in (60, 24 * 3600):
            admitted(tier, 30, 20)
            clock.now += quiet
            assert admitted(tier, 30, 20) == 20

    def test_each_tenant_has_its_own(self, tier: Tier) -> None:
        assert admitted(tier, 5, 2) == 2
        assert admitted(tier, 5, 2, "clinic-b") == 2
        assert admitted(tier, 5, 3, "x" * 255) == 3

    def test_a_new_limit_holds_at_once(self, tier: Tier, clock: Clock) -> None:
        assert admitted(tier, 1, 1_000_000) == 1
        assert admitted(tier, 10, 5) == 5
        clock.now += 1
        assert admitted(tier, 2_000, 60_000) == 1_000

    def test_a_clock_that_was_set_back_gives_nothing_twice(self, tier: Tier, clock: Clock) -> None:
        assert admitted(tier, 60, 60) == 60
        clock.now -= 30
        assert admitted(tier, 5, 60) == 0
        clock.now += 31
        assert admitted(tier, 5, 60) == 1


class TestRedis:
    def test_all_processes_count_together(self, redis_client: redis.Redis, redis_tier: RedisTier) -> None:
        others = [RedisTier(redis_client, Settings()) for _ in range(4)]
        with ThreadPoolExecutor(8) as threads:
            waits = list(threads.map(lambda n: others[n % 4].admit(CLINIC, 20), range(60)))
        # Some messages may be refilled while the threads run: 20 a minute are one in 3 s.
        assert 20 <= waits.count(0) <= 22

    def test_a_buckets_key_is_gone_after_a_minute_and_tagged_by_the_tenant(
        self, redis_client: redis.Redis, redis_tier: RedisTier
    ) -> None:
        redis_tier.admit(CLINIC, 10)
        (key,) = redis_client.keys("*")
        assert key == f"mh:{{{CLINIC}}}:rate"
        assert 59 <= redis_client.ttl(key) <= 61  # type: ignore[operator]

    def test_it_costs_one_round_trip(self, redis_client: redis.Redis, redis_tier: RedisTier) -> None:
        redis_tier.admit(CLINIC, 10)
        redis_client.config_resetstat()
        redis_tier.admit(CLINIC, 10)
        calls = redis_client.info("commandstats")
        assert {name for name in calls if "config" not in name and "info" not in name} == {
            "cmdstat_evalsha",
            "cmdstat_hmget",
            "cmdstat_hset",
            "cmdstat_expire",
        }


@given(
    per_minute=st.integers(1, 1_000_000),
    pauses=st.lists(st.floats(0, 120) | st.floats(0, 0.01), min_size=1, max_size=60),
)
def test_no_stretch_of_time_admits_more_than_its_share_and_a_minutes(per_minute: int, pauses: list[float]) -> None:
    clock = Clock()
    buckets, began, count = Buckets(clock), clock.now, 0
    for pause in pauses:
        clock.now += pause
        wait = buckets.take(CLINIC, per_minute)
        assert 0 <= wait <= 60 / per_minute
        count += wait == 0
        assert count <= per_minute + math.ceil((clock.now - began) * per_minute / 60 + 0.001)


def test_a_process_knows_a_bounded_number_of_tenants() -> None:
    buckets = Buckets(Clock())
    for number in range(10_001):
        assert buckets.take(f"clinic-{number}", 1) == 0
    assert buckets.take("clinic-0", 1) == 0, "the bucket is still known"
