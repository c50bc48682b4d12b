"""Guards of replies: what a bot says about itself, and what no reply may say."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, function, statement

DISCLOSURE = "unit/test_disclosure.py"
REPLIES = "worker/replies.py"
ASKING = "worker/asking.py"
MEMORY = "archive/memory_raised.py"
_FENCES = function("take_fences_v3")


def guard(name: str, test: str, place: str, old: str, new: str = "") -> Guard:
    return Guard(name, "replies, invariant 16", test, (Removal(place, old, new),))


TOLD = (
    guard(
        "a conversation begins with the disclosure",
        f"{DISCLOSURE}::test_a_conversation_begins_with_it",
        ASKING,
        "            reply = with_disclosure(reply, _known(job, fence), config, self.clock())\n",
    ),
    guard(
        "the disclosure comes again",
        f"{DISCLOSURE}::TestWhen::test_in_the_first_reply_and_again_after_that_many",
        REPLIES,
        '[: limits.get("disclosure_every", DISCLOSURE_EVERY) - 1]',
    ),
    guard(
        "after hours the disclosure comes again",
        f"{DISCLOSURE}::TestWhen::test_again_after_hours[3.0-True]",
        REPLIES,
        " and (turn.said_at > since or not turn.said_at)",
    ),
    guard(
        "a reply without a time counts as lately given",
        f"{DISCLOSURE}::TestWhen::test_without_hours_or_without_a_time_the_count_alone_decides",
        REPLIES,
        "(turn.said_at > since or not turn.said_at)",
        "turn.said_at > since",
    ),
    guard(
        "Postgres tells when a reply was given",
        f"{DISCLOSURE}::test_postgres_tells_when_it_was_said[3]",
        _FENCES,
        "cast(extract(epoch from created_at) as bigint)",
        "0",
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

RAISED = "unit/test_raised_replies.py"
_FENCE = "contract/test_taking.py::TestTheFence"

WHILE_RAISED = (
    guard(
        "in a raised conversation each reply carries the way to a human",
        f"{RAISED}::test_each_reply_carries_it_until_a_person_closes[I can't breathe]",
        ASKING,
        "with_notice(completion.text, danger, config)",
        "with_notice(completion.text, replace(danger, raised=None), config)",
    ),
    guard(
        "a raised conversation's notice is stronger than an urgent one",
        f"{RAISED}::test_a_message_with_danger_of_its_own_has_one_notice",
        REPLIES,
        " or (self.raised and self.found.level is Level.URGENT)",
    ),
    guard(
        "in a raised conversation a failure notice carries the way to a human",
        f"{RAISED}::test_a_failure_notice_carries_it",
        ASKING,
        "with_notice(failure_notice(config), danger, config)",
        "with_notice(failure_notice(config), replace(danger, raised=None), config)",
    ),
    guard(
        "in a raised conversation no reply advises against help",
        f"{RAISED}::test_no_reply_advises_against_help_although_the_model_saw_no_danger",
        REPLIES,
        "(danger.level is not None or",
        "((danger.found is not None) or",
    ),
    guard(
        "while Postgres is away, the platform's history tells of danger",
        f"{RAISED}::TestWhilePostgresIsAway::test_the_turns_that_the_platform_sends_tell_it",
        REPLIES,
        "    return max((level for level in found if level is not Level.URGENT), default=None)",
        "    return None",
    ),
    guard(
        "while Postgres is away, an urgent turn raises nothing",
        f"{RAISED}::TestWhilePostgresIsAway::test_an_urgent_turn_or_one_of_the_bot_does_not[urgent]",
        REPLIES,
        " if level is not Level.URGENT)",
        ")",
    ),
    guard(
        "in Postgres, a closed conversation is not raised",
        f"{_FENCE}::test_tells_of_a_raised_conversation_until_it_is_closed[postgres]",
        _FENCES,
        " and closed_by is null",
    ),
    guard(
        "in Postgres, a drill changes no reply",
        f"{_FENCE}::test_tells_of_no_drill[postgres]",
        _FENCES,
        " and not drill",
    ),
    guard(
        "in Postgres, the fence tells the worst level",
        f"{_FENCE}::test_tells_the_worst_level[postgres-levels0]",
        _FENCES,
        "order by level = 'emergency' desc",
        "order by level = 'emergency'",
    ),
    guard(
        "in memory, a closed conversation is not raised",
        f"{_FENCE}::test_tells_of_a_raised_conversation_until_it_is_closed[memory]",
        MEMORY,
        'each.state != "closed" and not',
        "not",
    ),
    guard(
        "in memory, a drill changes no reply",
        f"{_FENCE}::test_tells_of_no_drill[memory]",
        MEMORY,
        ' if each.state != "closed" and not each.drill)',
        ' if each.state != "closed")',
    ),
)

SILENT = "unit/test_silent_bot.py"

SILENCE = (
    guard(
        "a silent bot asks no AI",
        f"{SILENT}::test_no_ai_is_asked_and_the_reply_has_the_notice[I can't breathe]",
        ASKING,
        "prompt_of(job, fence, config, timeout), silent_reply(danger, config)",
        "prompt_of(job, fence, config, timeout), None",
    ),
    guard(
        "a bot stays silent until a person closes the conversation",
        f"{SILENT}::test_until_a_person_closes_it",
        REPLIES,
        "if not is_silent or danger.level in",
        "if not is_silent or (danger.found and danger.found.level) in",
    ),
    guard(
        "an urgent match silences no bot",
        f"{SILENT}::test_anything_else_is_answered[there is blood in my urine]",
        REPLIES,
        "in (None, Level.URGENT):",
        "is None:",
    ),
    guard(
        "a silent bot's reply is more than the notice, so it answers in a history",
        f"{SILENT}::TestOneReplyForEachMessage::test_without_ids_if_the_history_has_the_reply[True-reply]",
        REPLIES,
        "    return with_notice(silence(config), danger, config)",
        '    return with_notice("", danger, config)',
    ),
)

REFUSED = "unit/test_refused_replies.py"
CLAIMS = f"{REFUSED}::TestRefusing::test_the_job_fails_and_the_patient_gets_the_notice"

KEPT_BACK = (
    guard(
        "a refused reply reaches no patient",
        CLAIMS,
        ASKING,
        "            self._check(completion.text, prompt, danger)\n",
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
        "level is not None and (danger.level is not None or _told_before(prompt, danger))",
        "level is not None",
    ),
    guard(
        "danger that was told before counts",
        f"{REFUSED}::TestRefusing::test_danger_that_was_told_before_counts",
        REPLIES,
        " or _told_before(prompt, danger)",
    ),
    guard(
        "what is refused is not shown while it is written",
        f"{REFUSED}::TestWhileItIsWritten::test_a_patient_reads_nothing_that_is_refused",
        ASKING,
        " and may_show(text)",
    ),
    guard(
        "a failure notice carries the way to help",
        f"{REFUSED}::TestTheFailureNotice::test_carries_the_way_to_help",
        ASKING,
        "with_notice(failure_notice(config), danger, config)",
        "failure_notice(config)",
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

EVIDENCE = "unit/test_evidence.py"
DEFECTS, READER = "unit/test_rule_defects.py", "safety/reader.py"
FINDINGS = "contract/test_findings.py"

KEPT = (
    guard(
        "each message keeps what the rules have found in it",
        f"{EVIDENCE}::test_a_message_keeps_its_danger[answer-I can't breathe]",
        ASKING,
        "replace(ended, findings=danger.findings)",
        "ended",
    ),
    guard(
        "a defect of the shipped rules keeps no job from its end",
        f"{DEFECTS}::TestOfTheShippedRules::test_a_job_ends_as_without_danger[answer]",
        READER,
        "                return None\n            self",
        "                raise ValueError\n            self",
    ),
    guard(
        "a defect of a tenant's rules hides no danger",
        f"{DEFECTS}::TestOfATenantsRules::test_the_shipped_ones_find_danger",
        READER,
        "            self._rules = shipped()\n\n",
        "            return None\n\n",
    ),
    guard(
        "a defect of the rules for replies costs no reply",
        f"{DEFECTS}::TestOfTheShippedRules::test_a_reply_is_given_although_the_rules_for_replies_can_not_read_it",
        READER,
        "            return None\n\n    def _named",
        "            raise\n\n    def _named",
    ),
    *(
        guard(
            f"in {where}, a retry counts no finding twice",
            f"{FINDINGS}::test_a_retry_moves_them_to_the_job_that_answers[{test}]",
            place,
            old,
            new,
        )
        for where, test, place, old, new in (
            ("memory", "memory", "archive/memory.py", "replace(known, findings=())", "known"),
            ("Postgres", "postgres", statement("reopen_job"), "findings.job_id = reopened.job_id", "false"),
        )
    ),
    guard(
        "an end keeps the findings of the messages that it settles, and no others",
        f"{FINDINGS}::test_an_end_that_is_archived_late_keeps_those_of_its_open_messages",
        "archive/postgres_jobs.py",
        " if found.message_id in own]",
        "]",
    ),
    guard(
        "an erasure takes the findings along",
        f"{FINDINGS}::test_an_erasure_takes_them_along",
        "sql/migrations/0018_findings.sql",
        ",\n    foreign key (platform_id, conversation_id) references conversations on delete cascade",
    ),
    guard(
        "in Postgres, the report counts urgent findings",
        f"{FINDINGS}::test_the_report_counts_the_urgent_ones[postgres]",
        statement("safety_report"),
        "where platform_id = :platform_id and level = 'urgent'",
        "where false",
    ),
    guard(
        "in Postgres, the report counts a crisis once, although each message keeps it",
        f"{FINDINGS}::test_the_report_counts_the_urgent_ones[postgres]",
        statement("safety_report"),
        " and level = 'urgent'",
    ),
    guard(
        "in memory, the report counts a crisis once, although each message keeps it",
        f"{FINDINGS}::test_the_report_counts_the_urgent_ones[memory]",
        MEMORY,
        'if found.level == "urgent":',
        "if True:",
    ),
)

HUMAN = "unit/test_after_danger.py"
DANGER, INTAKE = "intake/danger.py", "intake/intake.py"

AFTER_DANGER = (
    guard(
        "danger over several requests is handed off",
        f"{HUMAN}::test_a_phrase_over_several_requests_is_handed_off_when_it_is_whole",
        INTAKE,
        "        if is_new and found is not own:\n            alarm.hand_off(found, self.queue)\n",
    ),
    guard(
        "a part of danger that comes again hands nothing off",
        f"{HUMAN}::test_a_part_of_a_phrase_that_comes_again_behind_a_resume_hands_nothing_off",
        INTAKE,
        "        if is_new and found is not own:\n",
        "        if found is not own:\n",
    ),
    Guard(
        "an urgent match is not handed off",
        "replies, danger first",
        f"{HUMAN}::test_anything_else_is_answered",
        (
            Removal(
                DANGER,
                " for index, share in shares if share.level is not Level.URGENT)",
                " for index, share in shares)",
            ),
        ),
    ),
    guard(
        "an urgent match over several requests is not handed off",
        f"{HUMAN}::test_an_urgent_phrase_over_several_requests_is_answered",
        DANGER,
        "if found is None or found.level is Level.URGENT:\n            return\n        try:",
        "if found is None:\n            return\n        try:",
    ),
)

GUARDS = (*AFTER_DANGER, *TOLD, *WHILE_RAISED, *SILENCE, *KEPT, *KEPT_BACK, *CONFIGURED)
