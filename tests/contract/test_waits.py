"""How many clients may wait for a job at the same time, on every tier: those of one tenant, and all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from message_handler.domain.identifiers import new_id
from message_handler.ports.line_store import LONGEST_WAIT
from message_handler.ports.tier import Tier
from message_handler.settings import Settings
from message_handler.tiers.redis import RedisTier
from tests.contract.chat import Clock

CLINIC, OTHER = "clinic-a", "clinic-b"


def begin(tier: Tier, wait_id: str | None = None, platform_id: str = CLINIC, *, most: int = 3, in_all: int = 5) -> bool:
    return tier.begin_wait(platform_id, wait_id or new_id(), most=most, most_in_all=in_all)


class TestEveryTier:
    def test_a_tenant_has_its_places_and_no_more(self, tier: Tier) -> None:
        assert [begin(tier) for _ in range(5)] == [True] * 3 + [False] * 2

    def test_a_refused_wait_takes_no_place(self, tier: Tier) -> None:
        for _ in range(20):
            begin(tier)
        assert [begin(tier, platform_id=OTHER) for _ in range(3)] == [True, True, False]

    def test_all_tenants_together_have_theirs(self, tier: Tier) -> None:
        assert [begin(tier, platform_id=f"clinic-{number}") for number in range(7)] == [True] * 5 + [False] * 2

    def test_an_ended_wait_gives_its_place_back_to_both(self, tier: Tier) -> None:
        for number in range(3):
            begin(tier, f"wait-{number}")
        assert [begin(tier, platform_id=OTHER) for _ in range(3)] == [True, True, False]
        tier.end_wait(CLINIC, "wait-1")
        assert begin(tier, platform_id=OTHER) is True
        assert begin(tier) is False
        tier.end_wait(CLINIC, "wait-0")
        assert begin(tier) is True

    def test_a_wait_whose_process_was_killed_counts_no_longer_than_any_wait_lasts(
        self, tier: Tier, clock: Clock
    ) -> None:
        for _ in range(3):
            begin(tier)
        clock.now += LONGEST_WAIT / 2
        assert begin(tier) is False
        clock.now += LONGEST_WAIT / 2 + 1
        assert [begin(tier) for _ in range(4)] == [True] * 3 + [False]

    def test_with_no_places_no_client_waits(self, tier: Tier) -> None:
        assert begin(tier, most=0) is False
        assert begin(tier, in_all=0) is False

    def test_to_end_a_wait_twice_or_late_is_harmless(self, tier: Tier) -> None:
        begin(tier, "wait")
        for _ in range(2):
            tier.end_wait(CLINIC, "wait")
        assert [begin(tier) for _ in range(4)] == [True] * 3 + [False]


class TestRedis:
    def test_all_processes_count_together_and_never_too_many(
        self, redis_client: redis.Redis, redis_tier: RedisTier
    ) -> None:
        others = [RedisTier(redis_client, Settings()) for _ in range(4)]
        with ThreadPoolExecutor(8) as threads:
            begun = list(threads.map(lambda n: begin(others[n % 4], most=20, in_all=100), range(60)))
        assert begun.count(True) <= 20
        while begin(redis_tier, most=20, in_all=100):
            begun.append(True)
        assert begun.count(True) == 20, "clients that came at the same moment have left no places behind"

    def test_its_keys_expire_and_the_tenants_is_tagged(self, redis_client: redis.Redis, redis_tier: RedisTier) -> None:
        begin(redis_tier)
        assert sorted(redis_client.keys("*")) == ["mh:waits", f"mh:{{{CLINIC}}}:waits"]  # type: ignore[type-var]
        for key in redis_client.keys("*"):  # type: ignore[union-attr]
            assert 0 < redis_client.ttl(key) <= LONGEST_WAIT  # type: ignore[operator]

    def test_it_costs_one_round_trip_each_way(
        self, redis_client: redis.Redis, redis_tier: RedisTier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent = []
        connection = type(redis_client.connection_pool.get_connection())
        send = connection.send_packed_command

        def counted(self: object, *arguments: object, **options: object) -> object:
            sent.append(1)
            return send(self, *arguments, **options)

        begin(redis_tier)  # the connection may be new
        monkeypatch.setattr(connection, "send_packed_command", counted)
        begin(redis_tier, "wait")
        assert len(sent) == 1
        redis_tier.end_wait(CLINIC, "wait")
        assert len(sent) == 2
