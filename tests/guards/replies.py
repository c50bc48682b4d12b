"""Guards of replies: what a bot says about itself, and what no reply may say."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

DISCLOSURE = "unit/test_disclosure.py"
REPLIES = "worker/replies.py"
ASKING = "worker/asking.py"


def guard(name: str, test: str, place: str, old: str, new: str = "") -> Guard:
    return Guard(name, "replies, danger first", test, (Removal(place, old, new),))


TOLD = (
    guard(
        "a conversation begins with the disclosure",
        f"{DISCLOSURE}::test_a_conversation_begins_with_it",
        ASKING,
        "            reply = with_disclosure(reply, _known(job, fence), config)\n",
    ),
    guard(
        "the disclosure comes again",
        f"{DISCLOSURE}::TestWhen::test_in_the_first_reply_and_again_after_that_many",
        REPLIES,
        "[: every - 1]",
    ),
    guard(
        "after a human the disclosure comes again",
        f"{DISCLOSURE}::TestWhen::test_again_after_a_human",
        REPLIES,
        '        if turn.role == "sale":\n            break\n',
    ),
    guard(
        "a patient's words are no disclosure",
        f"{DISCLOSURE}::TestWhen::test_what_a_patient_writes_does_not_count",
        REPLIES,
        '        if turn.role == "assistant":\n            replies',
        "        if True:\n            replies",
    ),
)

REFUSED = "unit/test_refused_replies.py"
CLAIMS = f"{REFUSED}::TestRefusing::test_the_job_fails_and_the_patient_gets_the_notice"

KEPT_BACK = (
    guard(
        "a refused reply reaches no patient",
        CLAIMS,
        ASKING,
        "            self._check(completion.text, prompt)\n",
    ),
    guard(
        "a reply that claims to be a doctor's is always refused",
        f"{CLAIMS}[when do you open?-c4n4ry I am a licensed doctor.]",
        REPLIES,
        "level is Level.EMERGENCY or (",
        "(",
    ),
    guard(
        "advice against help counts only in danger",
        f"{REFUSED}::TestRefusing::test_what_is_no_harm_to_a_patient_without_danger_is_given",
        REPLIES,
        "level is not None and _tells_of_danger(prompt)",
        "level is not None",
    ),
    guard(
        "danger that was told before counts",
        f"{REFUSED}::TestRefusing::test_danger_that_was_told_before_counts",
        REPLIES,
        "    if any(screen(shipped(), [content]) for content in before):\n        return True\n",
        "    list(before)\n",
    ),
    guard(
        "what is refused is not shown while it is written",
        f"{REFUSED}::TestWhileItIsWritten::test_a_patient_reads_nothing_that_is_refused",
        ASKING,
        " and not is_refused(text, shown_to)",
    ),
    guard(
        "a failure notice carries the way to help",
        f"{REFUSED}::TestTheFailureNotice::test_carries_the_way_to_help",
        ASKING,
        "return with_notice(notice, newest_versions(job.messages), config)",
        "return notice",
    ),
    guard(
        "no phrase of a reply goes over the end of a sentence",
        "safety/test_replies.py::test_a_phrase_goes_over_no_end_of_a_sentence",
        "safety/replies.py",
        "_SENTENCE_END.split(reply)",
        "[reply]",
    ),
)

ACTIVE = "unit/test_safety_configuration.py"
ADMIN, SAFETY = "configuration/admin.py", "configuration/safety.py"

CONFIGURED = (
    guard(
        "no bot is activated without contacts",
        f"{ACTIVE}::TestRequired::test_a_bot_without_contacts_for_its_country_is_not",
        SAFETY,
        'if not _has_contacts(bot, records.get("platforms", platform_id)):',
        "if False:",
    ),
    guard(
        "no bot is activated without a disclosure",
        f"{ACTIVE}::TestRequired::test_a_bot_without_a_disclosure_in_its_language_is_not",
        SAFETY,
        "if disclosure_of(bot) is None:",
        "if False:",
    ),
    guard(
        "no active bot loses its contacts",
        f"{ACTIVE}::TestRequired::test_nothing_takes_the_contacts_away_from_an_active_bot",
        ADMIN,
        "                safety.check_platform(whole, was, records)\n",
        "                pass\n",
    ),
    guard(
        "a platform may be changed while an older bot lacks contacts",
        f"{ACTIVE}::TestRequired::test_a_platform_may_be_changed_while_an_older_bot_lacks_contacts",
        SAFETY,
        " and _has_contacts(bot, was)",
    ),
    guard(
        "the status names bots without contacts",
        f"{ACTIVE}::TestStatus::test_names_active_bots_without_contacts",
        SAFETY,
        " and not _has_contacts(bot, platform)]",
        " and False]",
    ),
    guard(
        "a review holds for a year",
        f"{ACTIVE}::TestStatus::test_names_contacts_whose_review_is_old",
        SAFETY,
        'if each["reviewed_at"] < oldest_review(today)',
        "if False",
    ),
    guard(
        "a notice without a number is counted",
        f"{ACTIVE}::TestNotices::test_one_without_a_number_is_counted",
        "intake/danger.py",
        '            self.meter.add("SafetyUnconfigured")\n',
        "            pass\n",
    ),
)

HUMAN = "unit/test_after_danger.py"
DANGER, INTAKE = "intake/danger.py", "intake/intake.py"

AFTER_DANGER = (
    guard(
        "danger is handed off before it is accepted",
        f"{HUMAN}::test_the_message_waits_for_a_human",
        INTAKE,
        "        found = alarm.look(messages)\n        alarm.hand_off(found, messages, self.queue)\n",
        "        found = alarm.look(messages)\n",
    ),
    guard(
        "danger over several requests is handed off",
        f"{HUMAN}::test_a_phrase_over_several_requests_is_handed_off_when_it_is_whole",
        INTAKE,
        "        if found is not own:\n            alarm.hand_off(found, messages, self.queue)\n",
    ),
    guard(
        "an answered message hands nothing off",
        f"{HUMAN}::test_after_a_resume_the_bot_answers_it",
        DANGER,
        " or self._is_answered(messages)",
    ),
    guard(
        "an urgent match is not handed off",
        f"{HUMAN}::test_anything_else_is_answered",
        DANGER,
        "if found is None or found.level is Level.URGENT:\n            return\n        try:",
        "if found is None:\n            return\n        try:",
    ),
)

GUARDS = (*AFTER_DANGER, *TOLD, *KEPT_BACK, *CONFIGURED)
