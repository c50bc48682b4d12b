"""Guards of a tenant's safety rules: who may change them, and that no change switches the check off."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, statement
from tests.guards.tenants import isolated

TEXTS = "safety/test_own.py"
UNIT = "unit/test_safety_rules.py"
STORE = "contract/test_safety_rules.py"
ADMIN, DOCUMENT, BOTS = "configuration/rules_admin.py", "configuration/safety_rules.py", "bot_config.py"
OWN = "safety/own.py"


def guard(name: str, test: str, place: str, old: str, new: str = "") -> Guard:
    return Guard(name, "a tenant's safety rules", test, (Removal(place, old, new),))


GUARDS = (
    guard(
        "a shipped rule is left out with a reason alone",
        f"{UNIT}::TestWriting::test_no_rule_is_left_out_without_a_reason[]",
        DOCUMENT,
        "dict[str, Reason]",
        "dict[str, str]",
    ),
    guard(
        "only the settings that were seen are overwritten",
        f"{UNIT}::TestWriting::test_is_refused_if_it_was_changed_meanwhile",
        ADMIN,
        "                check_expected(",
        "                (",
    ),
    guard(
        "the first settings overwrite none",
        f"{UNIT}::TestWriting::test_is_refused_if_it_was_changed_meanwhile",
        ADMIN,
        "                if was is not None:\n",
        "                if False:\n",
    ),
    guard(
        "a change of the rules is audited",
        f"{UNIT}::TestWriting::test_is_audited",
        ADMIN,
        "            records.note(",
        "            (",
    ),
    guard(
        "an own rule has no id of a shipped one, of any language",
        f"{UNIT}::TestWriting::test_a_rule_of_another_shipped_language_keeps_its_id",
        OWN,
        "{*taken, *ids, DRILL_RULE}",
        "{*taken, DRILL_RULE}",
    ),
    guard(
        "English is always tried",
        f"{UNIT}::TestFinding::test_english_and_the_bots_languages_are_always_tried[languages0]",
        DOCUMENT,
        "{_ALWAYS, *chosen,",
        "{*chosen,",
    ),
    guard(
        "the languages of the bots are always tried",
        f"{UNIT}::TestFinding::test_english_and_the_bots_languages_are_always_tried[languages1]",
        DOCUMENT,
        ', *(tag.lower().split("-")[0] for tag in always.values())',
    ),
    guard(
        "danger is looked for although the tenant's rules can't be read",
        f"{UNIT}::TestWithoutStores::test_danger_is_found_although_the_rules_can_not_be_read",
        "safety/reader.py",
        "                self._rules = shipped()\n",
        "                raise\n",
    ),
    guard(
        "without stores the rules count that were read for another bot",
        f"{UNIT}::TestWithoutStores::test_the_last_known_rules_of_the_process_count",
        BOTS,
        "if tenant == platform_id and found:",
        "if False:",
    ),
    guard(
        "rules that another release has compiled do not count",
        f"{UNIT}::TestReleases::test_do_not_count_in_their_old_form",
        DOCUMENT,
        'if document.rules and stored["compiled_for"] == version else None',
        "if document.rules else None",
    ),
    guard(
        "rules that break the compiler cost no other tenant its rules",
        f"{STORE}::TestCompilingAgain::test_goes_on_with_the_next_tenant_if_the_compiler_breaks[postgres]",
        DOCUMENT,
        "            if not lenient:\n                raise\n",
        "            raise\n",
    ),
    guard(
        "own rules that take too long end",
        f"{TEXTS}::test_they_end_soon_and_keep_the_shipped_finding[windows]",
        "safety/matching.py",
        "        if self._left < 0:\n",
        "        if False:\n",
    ),
    guard(
        "own rules that fail keep the shipped finding",
        f"{TEXTS}::test_whatever_fails_in_them_keeps_the_shipped_finding[broken0-MemoryError]",
        "safety/rules.py",
        "        except Exception as error:",
        "        except ZeroDivisionError as error:",
    ),
    guard(
        "all messages of one check share the steps of own rules",
        f"{TEXTS}::test_all_messages_of_one_check_share_the_steps",
        "safety/screening.py",
        "rules.find(text, work)",
        "rules.find(text)",
    ),
    guard(
        "own rules that would take too long are refused",
        f"{TEXTS}::test_own_rules_that_would_take_too_long_are_refused[windows]",
        OWN,
        "            _read(language, text)\n",
        "            pass\n",
    ),
    guard(
        "a spelling stands for few words",
        f"{TEXTS}::test_what_is_too_long_or_too_much_is_refused[source0-spellings-stands for more than 12]",
        "safety/compiling.py",
        "elif len(text.words) > MOST_WORDS:",
        "elif False:",
    ),
    guard(
        "compiled rules that another release has shared are not used",
        f"{STORE}::test_what_another_release_has_shared_is_read_anew[postgres]",
        BOTS,
        ' and "safety_rules" in platform and is_current(platform)',
    ),
    guard(
        "what the sweep compiles writes over no newer rules",
        f"{STORE}::TestCompilingAgain::test_writes_over_no_newer_rules[postgres]",
        statement("recompile_safety_rules"),
        " and revision = :revision",
    ),
    isolated(
        "no settings are read",
        "safety_rules",
        f"{STORE}::test_each_tenant_has_its_own[postgres]",
        "where platform_id = :platform_id\n",
    ),
)
