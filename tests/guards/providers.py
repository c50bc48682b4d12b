"""The guards between a model server's answer and a patient: what is no whole reply, and what no patient may read."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

CHAT = "ai/test_chat_completions.py"
ANSWERING = "ai/test_answering.py"


def guard(name: str, test: str, file: str, old: str, new: str = "") -> Guard:
    return Guard(name, "what providers answer", test, (Removal(file, old, new),))


GUARDS: tuple[Guard, ...] = (
    guard(
        "half an answer is no reply",
        f"{CHAT}::test_a_half_answer_is_none_and_another_try_may_give_one[_ended_without_stop]",
        "ai/chat_answer.py",
        "elif self._end is None and not self.done:",
        "elif False:",
    ),
    guard(
        "an unknown word is no end",
        f"{CHAT}::test_an_unknown_word_and_then_a_cut_is_no_end",
        "ai/chat_answer.py",
        '(None, "unknown")',
        "(None,)",
    ),
    guard(
        "an error in a stream is an error",
        f"{CHAT}::test_an_error_after_the_end_was_said_is_an_error",
        "ai/chat_answer.py",
        "            raise of_error(error)\n",
        "            return\n",
    ),
    guard(
        "a closing tag alone ends reasoning",
        f"{CHAT}::test_reasoning_never_reaches_a_patient[pieces2]",
        "ai/reasoning.py",
        "                if not self._inside:\n                    self._kept = []\n",
    ),
    guard(
        "half a tag is not shown",
        f"{CHAT}::test_reasoning_never_reaches_a_patient[pieces1]",
        "ai/reasoning.py",
        "text, self._rest = self._without_half_a_tag(text)",
        'text, self._rest = text, ""',
    ),
    guard(
        "an interim answer is not the answer",
        f"{CHAT}::test_interim_answers_are_not_the_answer",
        "drivers/egress.py",
        "self.status // 100 != 1 or",
        "True or",
    ),
    guard(
        "a cut after the end changes nothing",
        f"{CHAT}::test_an_answer_is_whole_once_its_end_was_said[_cut_after_stop]",
        "ai/watched.py",
        "if known and isinstance(piece, ProviderFailure)",
        "if False and isinstance(piece, ProviderFailure)",
    ),
    guard(
        "an end that was said is not waited for again",
        f"{CHAT}::test_an_answer_is_whole_once_its_end_was_said[_silent_after_stop]",
        "ai/watched.py",
        "end = min(last, time.monotonic() + piece.seconds)",
        "end = last",
    ),
    guard(
        "a request that is made anew has its own outcome",
        f"{CHAT}::TestShapeOfTheRequest::test_what_a_server_refused_before_is_not_the_outcome",
        "ai/http_provider.py",
        "                    yield None\n                    left_out = True\n",
        "                    left_out = True\n",
    ),
    guard(
        "a refusal is not the outcome while a token is renewed",
        f"{CHAT}::TestRotation::test_a_vault_may_take_its_time",
        "ai/http_provider.py",
        "if response.status == _UNAUTHORIZED:",
        "if False:",
    ),
    guard(
        "a field that was refused is left out by each request",
        f"{CHAT}::TestShapeOfTheRequest::test_requests_that_a_server_refuses_at_the_same_time_all_go_on",
        "ai/chat_completions.py",
        'if "stream_options" not in unknown_fields:',
        'if "stream_options" not in unknown_fields or self.url in _without_stream_options:',
    ),
    guard(
        "a text that breaks off in reasoning is no reply",
        f"{CHAT}::test_a_text_that_breaks_off_in_reasoning_is_no_reply_and_another_try_may_give_one",
        "ai/reasoning.py",
        'return None if self.text.strip() else ""',
        "return self.text",
    ),
    guard(
        "a hint never makes the tries faster",
        f"{ANSWERING}::test_a_hint_never_makes_the_tries_faster[headers3]",
        "ai/answering.py",
        "max(failure.retry_after, min(usual, _BACKOFF_SECONDS))",
        "failure.retry_after",
    ),
    guard(
        "the last tries share what is left of the time",
        f"{ANSWERING}::test_the_tries_spread_over_the_whole_time",
        "ai/answering.py",
        "usual = min(_BACKOFF_SECONDS * 2.0**number * jitter, left / 2)",
        "usual = 0.01",
    ),
    guard(
        "a context that is too long is halved once",
        f"{ANSWERING}::test_a_context_that_is_too_long_is_tried_once_more_with_its_newer_half",
        "ai/answering.py",
        'failure.code == "ai_context_too_long" and prompt.context',
        "False",
    ),
)
