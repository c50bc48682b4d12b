"""What people send is kept: odd characters, the same words in another dress, messages without words, channels' ids."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, statement

ODD, SAME, WORDLESS = "unit/test_odd_characters.py", "unit/test_same_words.py", "unit/test_wordless.py"
KEPT, STORED = "contract/test_wordless.py", "contract/test_same_words.py"
RULE = "invariant 15, words are kept"


def guard(name: str, test: str, *removal: str) -> Guard:
    return Guard(name, RULE, test, (Removal(*removal),))


CHARACTERS = (
    guard(
        "an odd character does not refuse a request",
        f"{ODD}::test_an_odd_character_costs_neither_the_request_nor_the_conversation",
        "intake/requests.py",
        "except OddCharacter:",
        "except ZeroDivisionError:",
    ),
    guard(
        "keys that become the same are told apart",
        f"{ODD}::test_keys_that_would_become_the_same_are_told_apart",
        "domain/text.py",
        "key += REPLACEMENT",
        "break",
    ),
    guard(
        "invisible text between turns is no turn",
        f"{ODD}::test_invisible_text_between_turns_is_no_turn",
        "domain/history.py",
        "for piece in stripped if not is_wordless(piece)]",
        "for piece in stripped if piece]",
    ),
    guard(
        "an id is decoded once",
        "unit/test_bad_input.py::test_an_id_that_was_encoded_twice_is_refused",
        "http/rest.py",
        "return given if decoded else unquote(given)",
        "return unquote(given)",
    ),
)

DRESSES = (
    guard(
        "waiting messages are compared by their words",
        f"{SAME}::TestMessages::test_without_ids_are_the_same",
        "domain/messages.py",
        "return self.digest if words == self.content else digest_of(words)",
        "return self.digest",
    ),
    guard(
        "a line keeps the digest of the words",
        f"{SAME}::TestMessages::test_are_known_by_what_a_line_keeps_of_them",
        "protocol/line_documents.py",
        '        value["words"] = words\n',
        "        pass\n",
    ),
    guard(
        "what the release before kept is known",
        f"{SAME}::TestMessages::test_are_known_if_the_release_before_kept_them",
        "domain/messages.py",
        "return (words,) if words == digest else (words, digest)",
        "return (words,)",
    ),
    guard(
        "what was answered last is compared by its words",
        f"{STORED}::test_they_are_a_duplicate_until_they_are_answered[memory-blanks at the ends]",
        "protocol/steps.py",
        "tuple(m.words_digest for m in newest)",
        "tuple(m.digest for m in newest)",
    ),
    guard(
        "an archived turn is compared by its words",
        f"{SAME}::TestHistories::test_keep_a_turn_once_with_its_archived_text",
        "domain/history.py",
        "    words = words_of(turn.content)\n    yield",
        "    words = turn.content\n    yield",
    ),
    guard(
        "a human's turn is compared by its words",
        f"{SAME}::TestHistories::test_name_a_humans_turn_once",
        "archive/parking.py",
        "        words = words_of(content)\n        by_words",
        "        words = content\n        by_words",
    ),
    guard(
        "Postgres finds a human's turn without an id",
        f"{STORED}::test_so_is_one_that_had_an_id_before[postgres-blanks at the ends]",
        statement("noted_sales"),
        "array_position(cast(:turn_ids as text[]), null) is not null",
        "false",
    ),
    guard(
        "few of a human's turns are read",
        "contract/test_handoff.py::TestManyHumanTurns::test_no_more_are_read[with an id]",
        statement("noted_sales"),
        "\nlimit 100 + cardinality(cast(:turn_ids as text[]))",
        "",
    ),
    guard(
        "a human's turn with the same id is read",
        "contract/test_handoff.py::TestManyHumanTurns::test_the_newest_are_compared_and_those_with_the_same_id[postgres]",
        statement("noted_sales"),
        "coalesce(message_id = any(cast(:turn_ids as text[])), false) desc, ",
        "",
    ),
)

WITHOUT_WORDS = (
    guard(
        "a turn without words is left out",
        f"{WORDLESS}::TestWithWords::test_an_empty_turn_is_left_out_and_the_rest_is_answered",
        "intake/requests.py",
        "for message in messages if not is_wordless(message.content))",
        "for message in messages)",
    ),
    guard(
        "a message without words is kept",
        f"{WORDLESS}::TestWithoutWords::test_alone_it_is_kept_under_its_id_and_has_no_job",
        "intake/intake.py",
        "        self.queue.send(WordlessRecord(request.key, bot_id, wordless, request.correlation_id))\n",
        "",
    ),
    guard(
        "it belongs to the bot of what waits",
        f"{WORDLESS}::TestWithoutWords::test_it_belongs_to_the_bot_of_what_waits",
        "intake/intake.py",
        "bot_id = found[1].bot_id if found else request.bot_id",
        "bot_id = request.bot_id",
    ),
    guard(
        "a repeated request is told the same job",
        f"{WORDLESS}::TestWithWords::test_after_the_reply_a_repeated_request_starts_nothing",
        "intake/intake.py",
        "messages = known_by(messages, last.message_id)",
        "pass",
    ),
    guard(
        "words that waited before learn the id of the message without words",
        f"{KEPT}::TestWordsBeforeIt::test_their_id_is_known_for_words_that_waited_before[memory]",
        "protocol/accepting.py",
        " or is_derived(incoming.message_id)",
        "",
    ),
    guard(
        "a message without words continues what was answered",
        f"{KEPT}::TestWordsBeforeIt::test_whole_histories_do_not_ask_again_what_was_answered[memory]",
        "domain/consolidation.py",
        " and not is_derived(incoming[-1].message_id)",
        "",
    ),
    guard(
        "words that another request brought answer for no message without words",
        f"{WORDLESS}::TestWithWords::test_if_the_words_before_it_were_answered_there_is_nothing_to_answer",
        "intake/intake.py",
        "if said.ends_wordless and not accepted.recognised:",
        "if False:",
    ),
    guard(
        "no turn shows a derived id",
        f"{KEPT}::TestWordsBeforeIt::test_an_id_that_comes_later_is_the_turns[memory]",
        "domain/messages.py",
        " for id_ in self.ids if not is_derived(id_)] if self.given",
        " for id_ in self.ids] if self.given",
    ),
    guard(
        "a known message is kept once",
        f"{KEPT}::TestKeeping::test_the_same_again_is_known",
        "archive/wordless.py",
        "if not known and not",
        "if not",
    ),
    guard(
        "an erased message stays erased",
        f"{KEPT}::TestKeeping::test_what_was_erased_stays_erased",
        "archive/wordless.py",
        " and not is_void(erased_until, message.accepted_at)",
        "",
    ),
    guard(
        "Postgres knows a settled message",
        f"{KEPT}::TestKeeping::test_an_id_that_was_answered_is_known[postgres]",
        statement("known_user_ids"),
        "settled.message_id = known.message_id",
        "false",
    ),
    guard(
        "Postgres knows a parked message",
        f"{KEPT}::TestKeeping::test_an_id_that_is_parked_is_known[postgres]",
        statement("known_user_ids"),
        "known.message_id = any(held.message_id || held.aliases)",
        "false",
    ),
    guard(
        "an outage uses up no delivery of a message without words",
        f"{KEPT}::TestTheWay::test_while_postgres_is_away_it_waits_without_losing_a_delivery",
        "worker/worker.py",
        "            if isinstance(record, ArchivedRecord):\n                return",
        "            if isinstance(record, ArchivedRecord) and record.job_id is None:\n"
        "                self.rescue.bring(record)\n"
        "                return Outcome(None)\n"
        "            if isinstance(record, ArchivedRecord):\n                return",
    ),
)

GUARDS = (*CHARACTERS, *DRESSES, *WITHOUT_WORDS)
