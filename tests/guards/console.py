"""Guards of the console: which files are served, what they may do, and which callers may stop the local stores."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, statement

UNIT = "unit/test_console.py"
OUTAGES = "local/test_outages.py"
CONSOLE = "http/console.py"
HOST = "../../../../local/outages.py"

GUARDS: tuple[Guard, ...] = (
    Guard(
        "only files of the folder itself are served",
        "console",
        f"{UNIT}::TestFiles::test_only_files_of_the_folder_itself_that_a_page_may_have",
        (Removal(CONSOLE, "if name not in self.names:", "if not (self._folder / name).is_file():"),),
    ),
    Guard(
        "a link out of the folder is not followed",
        "console",
        f"{UNIT}::TestFiles::test_only_files_of_the_folder_itself_that_a_page_may_have",
        (Removal(CONSOLE, " and not file.is_symlink()"),),
    ),
    Guard(
        "the page has one address",
        "console",
        f"{UNIT}::TestFiles::test_no_other_name_is_one[index.html]",
        (Removal(CONSOLE, 'if name.endswith(".html"):', "if False:"),),
    ),
    Guard(
        "the page can't make HTML of a text",
        "invariant 11, console",
        f"{UNIT}::TestHeaders::test_the_page_can_do_nothing_but_what_it_is_for[admin-console]",
        (Removal(CONSOLE, "; require-trusted-types-for 'script'; trusted-types 'none'"),),
    ),
    Guard(
        "no other page may frame the console",
        "console",
        f"{UNIT}::TestHeaders::test_the_page_can_do_nothing_but_what_it_is_for[admin-console-file]",
        (Removal(CONSOLE, "frame-ancestors 'none'", "frame-ancestors *"),),
    ),
    Guard(
        "a tenant sees its own minutes",
        "invariant 13, console",
        "contract/test_statistics.py::test_each_tenant_has_its_own[postgres]",
        (
            Removal(
                statement("minutes"),
                "where platform_id = :platform_id and copy_of is null and kind = 'reply'\n      and finished_at >=",
                "where copy_of is null and kind = 'reply'\n      and finished_at >=",
            ),
        ),
    ),
    Guard(
        "a copy of a job counts for nothing",
        "console",
        "contract/test_statistics.py::test_a_copy_of_a_job_does_not_count",
        (
            Removal(
                statement("minutes"),
                "platform_id = :platform_id and copy_of is null and kind = 'reply'\n      and finished_at",
                "platform_id = :platform_id and kind = 'reply'\n      and finished_at",
            ),
        ),
    ),
    Guard(
        "another page stops nothing here",
        "console",
        f"{OUTAGES}::test_no_other_page_may",
        (Removal(HOST, 'if foreign or set(_values(request, "sec-fetch-site")) - _OWN_SITES:', "if False:"),),
    ),
    Guard(
        "a name that leads to this machine is not this machine",
        "console",
        "local/test_gateway.py::test_only_requests_that_name_this_machine_are_answered",
        (Removal("../../../../local/server.py", "all(_LOOPBACK.fullmatch(host) for host in given)", "True"),),
    ),
    Guard(
        "a form stops nothing here",
        "console",
        f"{OUTAGES}::test_no_other_page_may",
        (Removal(HOST, '!= ["application/json"]', "== []"),),
    ),
    Guard(
        "where tokens are wanted, an operator's is",
        "console",
        f"{OUTAGES}::test_where_tokens_are_wanted_an_operators_is",
        (Removal(HOST, "if self._authorizer is not None:", "if False:"),),
    ),
    Guard(
        "a server that the local host did not start is left alone",
        "console",
        f"{OUTAGES}::test_what_is_not_ours_is_left_alone",
        (Removal("../../../../local/parts.py", "if not part.ours:", "if False:"),),
    ),
    Guard(
        "no process gets the port of a stopped store",
        "console",
        f"{OUTAGES}::TestStores::test_while_a_store_is_stopped_no_other_process_gets_its_port",
        (Removal("../../../../local/parts.py", "if self._placeholder is None:", "if False:"),),
    ),
    Guard(
        "records that come with the last poll go back",
        "console",
        "local/test_queues.py::test_what_comes_with_the_last_poll_goes_back_at_once",
        (Removal("../../../../local/queues.py", "                self._give_back(messages)\n"),),
    ),
)
