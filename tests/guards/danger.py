"""Guards of found danger: its notice is given once, and it is told ahead of all that waits."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, function, statement

KEPT = "contract/test_raised.py"
TOLD = "contract/delivery/test_danger.py"
MEMORY = "archive/memory.py"
DELIVERY = "delivery/deliveries.py"
RESCUE = "worker/rescue.py"
NOTE, CLAIM, DUE = statement("note_raised"), statement("claim_delivery"), statement("due_deliveries")
TABLE = "sql/migrations/0016_safety.sql"
_FOREIGN_KEY = ",\n    foreign key (platform_id, conversation_id) references conversations on delete cascade"


def guard(name: str, test: str, place: str, old: str, new: str = "", *, rule: str = "notices") -> Guard:
    return Guard(name, f"{rule}, invariant 16", test, (Removal(place, old, new),))


INTAKE, ALARM, ANSWERS = "intake/intake.py", "intake/danger.py", "unit/test_danger.py"
REFUSED = f"{ANSWERS}::TestWhateverBecomesOfTheRequest"

ANSWERED = (
    guard(
        "a refusal or an error has the notice",
        f"{REFUSED}::test_its_answer_has_the_notice[I can't breathe-limited]",
        INTAKE,
        "raise telling(error, alarm.give(found, messages)) from error.__cause__",
        "raise",
    ),
    guard(
        "an error that can't be copied has the notice",
        f"{REFUSED}::test_an_error_of_any_type_has_the_notice[uncopyable]",
        "domain/errors.py",
        "    except Exception:  # noqa: BLE001  a foreign error may break in any way, and the patient gets the notice\n"
        "        told",
        "    except LookupError:\n        told",
    ),
    guard(
        "a request that is too large has the notice",
        f"{REFUSED}::test_a_text_that_is_too_long_is_looked_at_where_it_ends",
        INTAKE,
        "raise telling(error, alarm.give(alarm.look_at_the_end(request), ())) from error.__cause__",
        "raise",
    ),
    guard(
        "of a request that is too large, as much is read as of another",
        f"{REFUSED}::test_a_request_with_too_much_beside_the_text_is_read_as_far_as_another",
        ALARM,
        "left = MAX_HISTORY_BYTES",
        "left = MOST_CHARACTERS",
    ),
    guard(
        "of a request that is too large, no more bytes are read than of another",
        f"{REFUSED}::test_a_text_with_long_characters_is_read_as_far_as_another",
        ALARM,
        "left -= len(content)",
        "left -= len(message.content)",
    ),
    guard(
        "a character that a platform escapes is read",
        "safety/test_text.py::test_a_character_that_a_platform_escapes_is_read_in_its_place",
        "safety/text.py",
        'if "&" in original:',
        "if False:",
    ),
    guard(
        "a notice has words",
        "unit/test_configuration.py::TestMetaData::test_what_is_not_is_refused_by_its_name",
        "configuration/records.py",
        "    if is_wordless(value):\n",
        "    if False:\n",
    ),
    guard(
        "a notice reaches no other request's answer",
        f"{REFUSED}::test_another_request_that_fails_with_the_same_error_has_no_notice",
        "domain/errors.py",
        "told = copy.copy(error)",
        "told = error",
    ),
    guard(
        "what a patient splits over several messages is read together",
        f"{ANSWERS}::TestEachAnswer::test_speaks_of_what_the_patient_has_split_over_several_messages",
        INTAKE,
        "        found = alarm.look_at_what_waits(found, messages, waiting)\n",
    ),
    guard(
        "what a patient splits over several messages is read together while a human answers",
        f"{ANSWERS}::TestEachAnswer::test_speaks_of_what_the_patient_has_split_while_a_human_answers",
        INTAKE,
        "return Answered(body, parked.messages)",
        "return Answered(body)",
    ),
    guard(
        "an emergency that waits hides no danger behind it, and no message is read alone again",
        f"{ANSWERS}::TestEachAnswer::test_speaks_of_what_is_split_behind_an_emergency_that_waits",
        ALARM,
        "self.reader.screen(newest, only_joined=True)",
        "self.reader.screen(newest)",
    ),
    guard(
        "what only earlier messages say does not count again",
        f"{ANSWERS}::TestEachAnswer::test_names_one_notice_for_a_level_and_an_hour",
        ALARM,
        " if newest[index] in said]",
        "]",
    ),
    guard(
        "a bot's turn that repeats a notice answers nothing",
        f"{ANSWERS}::TestHistory::test_a_bots_turn_that_repeats_a_notice_answers_nothing",
        "intake/requests.py",
        'turn.role != "assistant" or not is_notice(turn.content)',
        "True",
    ),
    guard(
        "a record brings what Postgres could not keep",
        f"{ANSWERS}::TestWithoutPostgres::test_the_notice_is_given_and_a_record_brings_it_later",
        ALARM,
        "self.queue.send(NoticeRecord(raised))",
        "return",
    ),
    guard(
        "a bot that does not exist gets no conversation",
        f"{REFUSED}::test_a_bot_that_does_not_exist_keeps_no_notice_back_and_gets_no_conversation",
        ALARM,
        "        except MessageHandlerError:\n            return None\n",
        "        except MessageHandlerError:\n            return self.bot_id\n",
    ),
    guard(
        "a notice leaves the conversation to the bot that has it",
        f"{REFUSED}::test_a_refused_message_leaves_the_conversation_to_the_bot_that_has_it",
        ALARM,
        "if found := self.tiers.find(lambda tier: tier.waiting(self.key)):",
        "if (found := self.tiers.find(lambda tier: tier.waiting(self.key))) and False:",
    ),
    guard(
        "a reply to danger carries the notice",
        f"{ANSWERS}::TestReplies::test_a_reply_to_danger_carries_the_notice[I can't breathe]",
        "worker/replies.py",
        'f"{reply}\\n\\n{notice}"',
        "reply",
    ),
)

NOTICES = (
    guard(
        "a text that breaks the rules' engine is answered",
        f"{REFUSED}::test_a_text_that_breaks_the_rules_engine_is_answered",
        "safety/reader.py",
        "            except Exception as error:  # noqa: BLE001  a defect of the rules must cost no message",
        "            except ZeroDivisionError as error:",
    ),
    guard(
        "a notice of before the deployment gave a number answers nothing",
        f"{ANSWERS}::TestHistory::test_one_of_before_the_deployment_gave_a_number_answers_nothing",
        "safety/notices.py",
        "for each in (config, bare)",
        "for each in (config,)",
    ),
    guard(
        "a bot that may not answer gives its own notice",
        f"{REFUSED}::test_a_bot_that_may_not_answer_gives_its_own_notice",
        "bot_config.py",
        "for each in (owner or bot_id or DEFAULT_BOT, DEFAULT_BOT):",
        "for each in ():",
    ),
    guard(
        "all processes give a notice the same name",
        f"{KEPT}::TestTheNoticesName::test_is_the_same_for_a_conversation_a_level_and_an_hour",
        "domain/conversations.py",
        "hashlib.sha256(name.encode()).digest()[:16]",
        "os.urandom(16)",
    ),
    guard(
        "each level has a notice of its own",
        f"{KEPT}::TestTheNoticesName::test_differs_with_each_of_them",
        "domain/conversations.py",
        "{self.conversation_id} {level} {hour}",
        "{self.conversation_id} {hour}",
    ),
    guard(
        "each hour has a notice of its own",
        f"{KEPT}::TestTheNoticesName::test_differs_with_each_of_them",
        "domain/conversations.py",
        "{self.conversation_id} {level} {hour}",
        "{self.conversation_id} {level}",
    ),
    guard(
        "in memory, a notice is noted once",
        f"{KEPT}::TestRaising::test_the_same_again_is_known_and_changes_nothing[memory]",
        MEMORY,
        "if known or is_void(",
        "if is_void(",
        rule="invariant 10",
    ),
    guard(
        "in Postgres, a notice is noted once",
        f"{KEPT}::TestRaising::test_the_same_again_is_known_and_changes_nothing[postgres]",
        NOTE,
        "\nselect job_id from notice\n",
        "\nselect conversation_id from talk\n",
        rule="invariant 10",
    ),
    guard(
        "in memory, nothing is raised in what was erased",
        f"{KEPT}::TestErasure::test_what_was_raised_before_is_gone_and_stays_gone[memory]",
        MEMORY,
        "if known or is_void(self._erased_until(key), raised.raised_at):",
        "if known:",
        rule="erasure",
    ),
    guard(
        "in Postgres, nothing is raised in what was erased",
        f"{KEPT}::TestErasure::test_what_was_raised_before_is_gone_and_stays_gone[postgres]",
        NOTE,
        "            and erased_at >= to_timestamp(cast(:raised_at as float8)))",
        "            and false)",
        rule="erasure",
    ),
    guard(
        "a notice that is void leaves no conversation behind",
        f"{KEPT}::TestErasure::test_what_was_raised_before_is_gone_and_stays_gone[postgres]",
        "archive/postgres.py",
        '"note_raised", "drop_empty_conversation"))',
        '"note_raised"))',
        rule="erasure",
    ),
    guard(
        "an erasure takes what was raised along",
        f"{KEPT}::TestInPostgres::test_it_goes_with_its_conversation",
        TABLE,
        _FOREIGN_KEY,
        rule="invariant 11",
    ),
    guard(
        "in memory, a notice has its conversation's bot",
        f"{KEPT}::TestRaising::test_a_conversation_that_is_there_keeps_its_own_bot[memory]",
        MEMORY,
        "own = replace(raised, bot_id=archived.bot_id or raised.bot_id)",
        "own = raised",
    ),
    guard(
        "in Postgres, a notice has its conversation's bot",
        f"{KEPT}::TestRaising::test_a_conversation_that_is_there_keeps_its_own_bot[postgres]",
        NOTE,
        " || jsonb_build_object('bot_id', bot_id)",
    ),
    *(
        guard(
            f"{where}, a notice binds no conversation",
            f"{KEPT}::TestRaising::test_it_binds_a_conversation_to_no_bot[{test}]",
            place,
            old,
            new,
        )
        for where, test, place, old, new in (
            ("in memory", "memory-a run", MEMORY, "archived.bot_id = archived.bot_id or bot_id", "pass"),
            (
                "in Postgres",
                "postgres-a human",
                statement("lock_conversation"),
                "coalesce(nullif(conversations.bot_id, ''), excluded.bot_id)",
                "conversations.bot_id",
            ),
            (
                "at a fence",
                "postgres-a run",
                function("take_fences_v3"),
                "coalesce(nullif(conversations.bot_id, ''), excluded.bot_id)",
                "conversations.bot_id",
            ),
        )
    ),
    guard(
        "in memory, a notice counts in no minute",
        "contract/test_statistics.py::test_a_safety_notice_does_not_count[memory]",
        "archive/memory_jobs.py",
        ' for job in self._originals(platform_id) if job.kind == "reply"]',
        " for job in self._originals(platform_id)]",
        rule="console",
    ),
    guard(
        "in Postgres, no notice counts as created",
        "contract/test_statistics.py::test_a_safety_notice_does_not_count[postgres]",
        statement("minutes"),
        " and kind = 'reply'\n      and created_at",
        "\n      and created_at",
        rule="console",
    ),
    guard(
        "in Postgres, no notice counts as completed",
        "contract/test_statistics.py::test_a_safety_notice_does_not_count[postgres]",
        statement("minutes"),
        " and kind = 'reply'\n      and finished_at",
        "\n      and finished_at",
        rule="console",
    ),
    guard(
        "a notice does not show that a worker lives",
        "contract/test_statistics.py::test_a_safety_notice_does_not_count[postgres]",
        statement("last_end"),
        " and kind = 'reply'",
        rule="health",
    ),
    guard(
        "in memory, a notice does not show that a worker lives",
        "contract/test_statistics.py::test_a_safety_notice_does_not_count[memory]",
        "archive/memory_jobs.py",
        'if job.key.platform_id == platform_id and job.kind == "reply")',
        "if job.key.platform_id == platform_id)",
        rule="health",
    ),
    guard(
        "a job says what it gives",
        f"{KEPT}::TestRaising::test_a_notice_is_listed_as_such[postgres]",
        function("job_json_v1"),
        "        'kind', job.kind,\n",
        rule="api",
    ),
)

WEBHOOKS = (
    *(
        guard(
            f"after an erasure, {event} has another id",
            f"{TOLD}::TestTheEvent::test_after_an_erasure_it_is_another_event_although_its_job_has_the_same_id",
            statement(name),
            old,
            new,
            rule="erasure",
        )
        for event, name, old, new in (
            ("danger", "note_raised", ":webhook_id || coalesce(erased, '')", ":webhook_id"),
            ("a reminder", "remind_raised", "where platform_id = reminded.platform_id\n", "where false\n"),
        )
    ),
    guard(
        "danger overtakes what waits",
        f"{TOLD}::TestAhead::test_it_overtakes_what_waits",
        CLAIM,
        "order by kind <> 'raised', sequence limit 1",
        "order by sequence limit 1",
    ),
    guard(
        "the order of the others does not keep danger waiting",
        f"{TOLD}::TestAhead::test_it_does_not_wait_for_a_delivery_that_failed",
        CLAIM,
        "status = 'pending' and kind = 'raised'\n    union all",
        "status = 'pending' and kind = 'none'\n    union all",
    ),
    guard(
        "danger holds no other delivery back",
        f"{TOLD}::TestHoldingNothingBack::test_one_that_is_on_its_way_holds_no_reply_back",
        CLAIM,
        " and kind <> 'raised'\n     order by",
        "\n     order by",
    ),
    guard(
        "danger needs no room at a platform",
        f"{TOLD}::TestAhead::test_a_full_platform_gets_it_all_the_same",
        CLAIM,
        "when kind <> 'raised' and (",
        "when (",
    ),
    guard(
        "danger takes no room at a platform",
        f"{TOLD}::TestAhead::test_it_does_not_count_against_the_others",
        CLAIM,
        " and deliveries.kind <> 'raised'\n",
        "\n",
        rule="deliveries",
    ),
    guard(
        "a worker goes on with the replies after danger that it could not deliver",
        f"{TOLD}::TestHoldingNothingBack::test_one_that_fails_holds_no_reply_back[400]",
        DELIVERY,
        "        return isinstance(delivery.event, DangerRaised)\n",
        "        return False\n",
        rule="invariant 7",
    ),
    guard(
        "the sweep finds danger behind a reply that waits",
        f"{TOLD}::TestAhead::test_the_sweep_wakes_it_although_a_reply_before_it_waits",
        DUE,
        "where status = 'pending' and kind = 'raised'",
        "where status = 'pending' and kind = 'none'",
        rule="invariant 7",
    ),
    guard(
        "the sweep wakes danger first",
        f"{TOLD}::TestAhead::test_the_sweep_wakes_it_first_and_its_conversation_once",
        DUE,
        "order by kind <> 'raised', next_attempt_at",
        "order by next_attempt_at",
    ),
    guard(
        "the sweep wakes a conversation once",
        f"{TOLD}::TestAhead::test_the_sweep_wakes_it_first_and_its_conversation_once",
        "archive/postgres_outbox.py",
        "return list(dict.fromkeys(found))",
        "return found",
        rule="deliveries",
    ),
    guard(
        "a platform without a webhook is told of no danger",
        f"{TOLD}::TestTheEvent::test_a_platform_without_a_webhook_is_told_nothing[]",
        NOTE,
        "\n    where base_url <> ''",
        rule="deliveries",
    ),
)

AWAY = (
    guard(
        "while Postgres is away, a platform is told of danger at once",
        f"{TOLD}::TestWhilePostgresIsAway::test_it_is_told_at_once_and_again_under_its_id",
        RESCUE,
        "                self.deliveries.raised(record.raised, deadline)\n",
        "                pass\n",
    ),
    guard(
        "while Postgres is away, a process tells of danger once",
        f"{TOLD}::TestWhilePostgresIsAway::test_a_process_tells_it_once_however_often_its_record_comes",
        DELIVERY,
        "if webhook and self._told.is_new(raised.job_id):",
        "if webhook:",
        rule="deliveries",
    ),
    guard(
        "without time for a try, danger is not posted",
        f"{TOLD}::TestWhilePostgresIsAway::test_without_time_for_a_try_another_receive_tells_it",
        DELIVERY,
        "        if deadline - self.clock() < TRY_SECONDS:\n            return\n",
        rule="invariant 9",
    ),
    guard(
        "what a process remembers of danger is bounded",
        f"{TOLD}::TestWhilePostgresIsAway::test_a_process_remembers_a_bounded_number",
        DELIVERY,
        "            if len(self._names) > MOST_REMEMBERED:\n",
        "            if False:\n",
        rule="speed",
    ),
    guard(
        "many ends do not delay a notice",
        "unit/test_rescue.py::TestArchiveRecords::test_many_ends_of_a_tenant_do_not_delay_its_notices",
        RESCUE,
        'else queue, "notice"',
        'else queue, "archive"',
    ),
    guard(
        "many jobs do not delay a notice",
        f"{TOLD}::TestWhilePostgresIsAway::test_its_record_waits_among_the_deliveries",
        RESCUE,
        "self.deliveries.queue if self.deliveries else queue",
        "queue",
    ),
    guard(
        "the records of notices leave the others room",
        "unit/test_rescue.py::TestNoticeRecords::test_one_comes_back_within_seconds_and_less_often_later",
        RESCUE,
        "min(max(waited, RECORD_SECONDS), NOTICE_SECONDS)",
        "RECORD_SECONDS",
    ),
    guard(
        "the delivery of danger that is archived late is woken at once",
        f"{TOLD}::TestWhilePostgresIsAway::test_when_it_is_archived_its_delivery_is_woken",
        RESCUE,
        "                    self.deliveries.wake(record.key)\n",
        "                    pass\n",
    ),
    guard(
        "a notice that Postgres lacks waits for it",
        f"{KEPT}::TestTheWay::test_while_postgres_is_away_it_waits_without_losing_a_delivery[redis and postgres]",
        RESCUE,
        "return self._send_again(record)",
        "return not isinstance(record, NoticeRecord) and self._send_again(record)",
        rule="invariant 1",
    ),
)

AFTER, HANDOFF = "unit/test_after_danger.py", "contract/test_handoff.py::TestTheArchive"
FOR_A_HUMAN = (
    guard(
        "no tier accepts what a human is to answer",
        f"{AFTER}::test_the_message_waits_for_a_human[I can't breathe]",
        "protocol/accepting.py",
        "is_new and message.message_id in request.for_a_human",
        "False",
        rule="handoff",
    ),
    guard(
        "a message that a tier knows hands nothing off",
        f"{AFTER}::TestAPlatformWithoutIds::test_hands_nothing_off_again_after_a_resume[False-more0]",
        "protocol/accepting.py",
        "is_new and message.message_id in request.for_a_human",
        "message.message_id in request.for_a_human",
        rule="handoff",
    ),
    *(
        guard(
            f"in {store}, a message that was known hands nothing off",
            f"{HANDOFF}::test_a_message_for_a_human_that_was_parked_or_settled_before_silences_nothing[{store.lower()}]",
            f"archive/{store.lower()}_handoff.py",
            "decision.new.isdisjoint(for_a_human)",
            "False",
            rule="handoff",
        )
        for store in ("memory", "Postgres")
    ),
    guard(
        "in Postgres, what a human is to answer is parked only with the handoff",
        f"{HANDOFF}::test_a_message_for_a_human_is_parked_and_silences_the_bot_in_one_step[postgres-True]",
        "archive/postgres_handoff.py",
        '            return None\n        execute(connection, values, "hand_off")\n',
        "            return None\n",
        rule="handoff",
    ),
    guard(
        "in memory, what a human is to answer is parked only with the handoff",
        f"{HANDOFF}::test_a_message_for_a_human_is_parked_and_silences_the_bot_in_one_step[memory-True]",
        MEMORY,
        "                self._silence(self._made(key, request.bot_id))\n            return result",
        "            return result",
        rule="handoff",
    ),
    guard(
        "a void message for a human makes no conversation",
        f"{HANDOFF}::test_a_message_for_a_human_that_was_erased_leaves_no_conversation_behind[postgres]",
        "archive/postgres.py",
        '                execute(connection, values, "drop_new_conversation")\n',
        "                pass\n",
        rule="erasure",
    ),
    guard(
        "without Postgres the bot answers what is for a human",
        f"{AFTER}::test_without_postgres_the_bot_answers",
        INTAKE,
        "            if not request.for_a_human:\n                raise\n",
        "            raise\n",
        rule="handoff",
    ),
)

GUARDS = (*FOR_A_HUMAN, *ANSWERED, *NOTICES, *WEBHOOKS, *AWAY)
