"""Guards of the console's page: what a browser must not keep, show or do."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

PAGE = "../../../../functions/admin/console"
SIGN_IN = "console/test_sign_in.py"
CONFIGURATION = "console/test_configuration.py"

GUARDS: tuple[Guard, ...] = (
    Guard(
        "a sign-in that was begun elsewhere gives no token",
        "console",
        f"{SIGN_IN}::test_a_sign_in_that_was_not_begun_here_or_is_refused_gives_no_token[state]",
        (Removal(f"{PAGE}/signin.js", ' || begun.state !== answer.get("state")'),),
    ),
    Guard(
        "no code stays in the address bar",
        "invariant 11, console",
        f"{SIGN_IN}::test_a_sign_in_at_cognito_leaves_no_code_in_the_address_bar",
        (Removal(f"{PAGE}/signin.js", '  history.replaceState(null, "", location.pathname + location.hash);\n'),),
    ),
    Guard(
        "a token ends with the tab",
        "invariant 11, console",
        f"{SIGN_IN}::test_a_sign_in_at_cognito_leaves_no_code_in_the_address_bar",
        (
            Removal(
                f"{PAGE}/signin.js",
                "if (given) sessionStorage.setItem(TOKENS",
                "if (given) localStorage.setItem(TOKENS, given.access), sessionStorage.setItem(TOKENS",
            ),
        ),
    ),
    Guard(
        "a record is written as it was seen",
        "console",
        f"{CONFIGURATION}::test_another_operators_change_is_shown_and_is_not_lost",
        (Removal(f"{PAGE}/editor.js", 'this.#seen ? { "If-Match": this.#seen } : { "If-None-Match": "*" }', "{}"),),
    ),
    Guard(
        "what is done in operations is done after asking",
        "console",
        "console/test_operations.py::test_a_failed_job_is_found_by_its_state_and_retried",
        (Removal(f"{PAGE}/dom.js", 'resolve(dialog.returnValue === "yes");', "resolve(true);"),),
    ),
    Guard(
        "a message that a store forgot is not called answered",
        "invariant 1, console",
        "console/test_chat.py::test_a_message_that_its_job_forgot_is_not_called_answered_before_the_archive_has_it",
        (Removal(f"{PAGE}/conversation.js", "message.late ??= true;", "message.late = false;"),),
    ),
)
