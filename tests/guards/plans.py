"""Guards of the plans that Postgres keeps: by which index they find rows, and in which order steps lock."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, function

FENCES, END, LINKS = (function(name) for name in ("take_fences_v3", "end_jobs_v1", "end_superseded_v2"))
GROWN = "contract/test_plans.py::test_no_plan_reads_the_whole_of_a_table_that_has_grown_since"
#: The lines behind the head of each function.
KEPT = "\nlanguage plpgsql\nset plan_cache_mode = force_generic_plan"
_LOCK = """        insert into conversations (platform_id, conversation_id, bot_id)
        values (job.platform_id, job.conversation_id, job.bot_id)
        on conflict (platform_id, conversation_id) do update
        set updated_at = now(), bot_id = coalesce(nullif(conversations.bot_id, ''), excluded.bot_id)
        returning handed_off, bot_id into human, bot;
"""
_RAISED = "        raised := null;\n"

GUARDS = (
    *(
        Guard(
            f"a plan for small tables reads no large one: {what}",
            "speed",
            f"{GROWN}[10-small]",
            (Removal(file, f"{KEPT}\nset enable_seqscan = off", KEPT),),
        )
        for what, file in (("a fence", FENCES), ("a commit", END), ("a link", LINKS))
    ),
    Guard(
        "a job is found without its platform's others",
        "speed",
        f"{GROWN}[1-new]",
        (
            Removal(
                END,
                "and conversation_id = job.conversation_id and job_id = job.job_id\n",
                "and job_id = job.job_id\n",
            ),
        ),
    ),
    Guard(
        "a fence waits for the conversation before it looks",
        "step fence",
        "contract/test_together.py::TestPostgres::test_a_fence_sees_what_was_settled_while_it_waited",
        (Removal(FENCES, _LOCK), Removal(FENCES, _RAISED, _LOCK + _RAISED)),
    ),
    Guard(
        "functions that are not there yet are an older schema",
        "Postgres away",
        "contract/test_migrations.py::TestTheCodeAfter::"
        "test_a_commit_of_a_run_that_began_before_goes_through_once_it_is_migrated[7]",
        (Removal("drivers/postgres_errors.py", ', "42883")', ")"),),
    ),
)
