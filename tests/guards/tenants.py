"""Guards between tenants: each statement that compares the tenant, and a test that sees another tenant's row."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, statement

MINE = "platform_id = :platform_id and "


def isolated(what: str, name: str, test: str, mine: str = MINE) -> Guard:
    """Removes the comparison of the tenant from a statement."""
    return Guard(f"{what} of another tenant", "invariant 13", test, (Removal(statement(name), mine),))


HANDOFF = "contract/test_handoff.py::TestTheArchive::test_tenants_with_the_same_ids_hand_off_and_park_apart[postgres]"
STORE = "contract/test_configuration.py::TestStore::test_tenants_never_see_each_other[postgres-{}]"

GUARDS = (
    isolated("no conversation is silenced", "hand_off", HANDOFF),
    isolated("nothing that a human said is known", "noted_sales", HANDOFF),
    isolated("no parked message is deleted", "drop_parked", HANDOFF),
    isolated(
        "no job is interrupted",
        "interrupt_job",
        "contract/test_archive.py::TestIsolation::test_a_tenant_interrupts_no_other_tenants_job[postgres]",
    ),
    isolated("no bot is deleted", "delete_bots", STORE.format("bots")),
    Guard(
        "a tenant writes no platform but its own",
        "invariant 13",
        "contract/test_configuration.py::TestReferences::test_what_is_not_there_is_not_found[postgres]",
        (Removal("configuration/admin.py", 'if kind == "platforms" and id_ != platform_id:', "if False:"),),
    ),
    Guard(
        "a tenant's own sweep looks at no line of another tenant in Redis",
        "invariant 13",
        "contract/test_redis.py::TestKeys::test_a_tenants_lists_and_sweep_read_no_other_tenants_index",
        (Removal("tiers/redis.py", '+ (f":{platform_id}" if platform_id else "")', ""),),
    ),
    Guard(
        "a tenant's own sweep looks at no line of another tenant in Postgres",
        "invariant 13",
        "contract/steps/test_sweep.py::TestSweep::test_a_tenants_own_sweep_leaves_the_others_alone[postgres]",
        (
            Removal(
                statement("due_lines"),
                "(cast(:platform_id as text) is null or platform_id = cast(:platform_id as text))",
                "(cast(:platform_id as text) is null or true)",
            ),
        ),
    ),
    Guard(
        "the server ends the statements of clients that have given up",
        "invariant 13",
        "contract/test_neighbours.py::test_a_request_that_meets_a_lock_is_refused_and_another_tenants_is_answered",
        (Removal("sql/migrations.py", "    if timeout:\n", "    if False:\n"),),
    ),
)
