"""Each message is kept once, in its place: the properties of match, fold and answered_before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from message_handler.domain.consolidation import answered_before, fold, match, with_alias
from message_handler.domain.messages import Message

#: (content, number of the platform's id), oldest first.
type Told = list[tuple[str, int | None]]

words = st.sampled_from("ab")
#: A few words and a few ids, so that both repeat often.
told = st.lists(st.tuples(words, st.none() | st.integers(1, 6)), max_size=6, unique_by=lambda told: told[1] or object())
whole = st.lists(words, min_size=1, max_size=5).map("".join)


def messages(told: Sequence[tuple[str, int | None]], prefix: str) -> tuple[Message, ...]:
    """Messages of one side. Those without a platform's id get one that only this side knows."""
    return tuple(
        Message(f"{prefix}{n}", content) if given_id is None else Message(f"m{given_id}", content, given=True)
        for n, (content, given_id) in enumerate(told)
    )


def take_in(waiting: tuple[Message, ...], incoming: Sequence[Message]) -> tuple[Message, ...]:
    """The waiting messages after a request, as the tiers join them."""
    found = match(waiting, incoming)
    learned = list(waiting)
    for message, index in zip(incoming, found, strict=True):
        if index is not None and message.given:
            learned[index] = with_alias(learned[index], message)
    return fold(learned, incoming, found, [index is None for index in found])


def text(waiting: Sequence[Message]) -> str:
    return "".join(message.content for message in waiting)


class TestMatch:
    @given(told, told)
    def test_no_message_stands_for_two(self, ours: Told, theirs: Told) -> None:
        waiting, incoming = messages(ours, "w"), messages(theirs, "i")
        found = [index for index in match(waiting, incoming) if index is not None]
        assert len(set(found)) == len(found)
        assert all(0 <= index < len(waiting) for index in found)

    @given(told, told)
    def test_the_same_id_is_the_same_message_and_another_id_is_not(self, ours: Told, theirs: Told) -> None:
        waiting, incoming = messages(ours, "w"), messages(theirs, "i")
        for message, index in zip(incoming, match(waiting, incoming), strict=True):
            known = [n for n, other in enumerate(waiting) if message.message_id in other.ids]
            if known:
                assert index == known[0]
            elif index is not None:
                assert waiting[index].content == message.content
                assert not (message.given and waiting[index].given)

    @given(told, told)
    def test_what_is_left_unmatched_on_both_sides_differs(self, ours: Told, theirs: Told) -> None:
        waiting, incoming = messages(ours, "w"), messages(theirs, "i")
        found = match(waiting, incoming)
        free = [other for index, other in enumerate(waiting) if index not in found]
        for message, index in zip(incoming, found, strict=True):
            if index is None:
                assert not any(
                    other.content == message.content and not (other.given and message.given) for other in free
                )

    @given(told)
    def test_the_same_request_again_is_all_known(self, told: Told) -> None:
        waiting, again = messages(told, "w"), messages(told, "i")
        assert [waiting[index].content for index in match(waiting, again) if index is not None] == [
            message.content for message in again
        ]

    def test_an_alias_is_an_id_as_good_as_another(self) -> None:
        known = with_alias(Message("minted", "a"), Message("m1", "a", given=True))
        assert known.ids == ("minted", "m1")
        assert match([known], [Message("m1", "b", given=True)]) == [0]
        assert match([known], [Message("m2", "a", given=True)]) == [None]
        assert with_alias(known, Message("m1", "a", given=True)) == known


class TestFold:
    @given(told, told)
    def test_each_message_is_kept_once(self, ours: Told, theirs: Told) -> None:
        waiting, incoming = messages(ours, "w"), messages(theirs, "i")
        found = match(waiting, incoming)
        new = [index is None for index in found]
        folded = fold(waiting, incoming, found, new)
        expected = [*waiting, *(message for message, is_new in zip(incoming, new, strict=True) if is_new)]
        assert sorted(folded, key=lambda message: message.message_id) == sorted(
            expected, key=lambda message: message.message_id
        )

    @given(told, told, st.data())
    def test_what_waits_and_what_comes_keep_their_orders(self, ours: Told, theirs: Told, data: st.DataObject) -> None:
        waiting, incoming = messages(ours, "w"), messages(theirs, "i")
        found = match(waiting, incoming)
        new = [index is None and data.draw(st.booleans()) for index in found]
        folded = fold(waiting, incoming, found, new)
        assert [message for message in folded if message in waiting] == list(waiting)
        came = [
            waiting[index] if index is not None else message
            for message, index, is_new in zip(incoming, found, new, strict=True)
            if index is not None or is_new
        ]
        known = [index for index in found if index is not None]
        if all(one < two for one, two in pairwise(known)):
            assert [message for message in folded if message in came] == came

    def test_a_run_of_new_messages_stands_directly_before_the_known_one_that_follows(self) -> None:
        a, b, x, y, z = (Message(name, name) for name in "abxyz")
        assert fold([a, b], [x, y, b, z], [None, None, 1, None], [True, True, False, True]) == (a, x, y, b, z)


class TestGrowingHistories:
    """A platform sends the whole history each time. The network delivers in any order, sometimes twice."""

    @given(whole, st.data())
    def test_without_ids_they_end_as_the_longest(self, history: str, data: st.DataObject) -> None:
        sizes = data.draw(st.lists(st.integers(1, len(history)), max_size=8))
        waiting: tuple[Message, ...] = ()
        for number, size in enumerate([*sizes, len(history), *sizes]):
            waiting = take_in(waiting, messages([(word, None) for word in history[:size]], f"{number}-"))
        assert text(waiting) == history

    @given(whole, st.data())
    def test_with_an_id_on_the_last_message_each_learns_its_own(self, history: str, data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(1, len(history) + 1)))
        waiting: tuple[Message, ...] = ()
        for number, size in enumerate([*order, *reversed(order)]):
            request = [(word, None) for word in history[: size - 1]]
            waiting = take_in(waiting, messages([*request, (history[size - 1], size)], f"{number}-"))
        assert text(waiting) == history
        for number, message in enumerate(waiting, 1):
            assert f"m{number}" in message.ids
            assert [id_ for id_ in message.ids if id_.startswith("m")] == [f"m{number}"]

    @given(whole, st.data())
    def test_with_ids_parts_in_any_order_are_kept_once_and_the_whole_puts_them_in_order(
        self, history: str, data: st.DataObject
    ) -> None:
        named = [Message(f"m{number}", word, given=True) for number, word in enumerate(history)]
        starts = data.draw(st.lists(st.integers(0, len(named) - 1), max_size=3))
        waiting: tuple[Message, ...] = ()
        for start in starts:
            end = data.draw(st.integers(start + 1, len(named)))
            waiting = take_in(waiting, named[start:end])
        # Parts that came in order stay in order. A whole history puts the missing messages into their places.
        in_order = [message.message_id for message in waiting] == sorted(m.message_id for m in waiting)
        waiting = take_in(waiting, named)
        assert sorted(message.message_id for message in waiting) == [message.message_id for message in named]
        if in_order:
            assert list(waiting) == named


class TestAnsweredBefore:
    @given(whole, st.integers(1, 5))
    def test_a_history_that_goes_on_was_answered_as_far_as_the_answer_went(self, history: str, size: int) -> None:
        last = digests(history[:size])
        expected = size if size < len(history) else 0
        assert answered_before(last, plain(history)) == expected

    @given(whole, st.integers(1, 5))
    def test_a_true_beginning_of_two_or_more_was_answered_whole(self, history: str, size: int) -> None:
        beginning = history[:size]
        expected = len(beginning) if 1 < len(beginning) < len(history) else 0
        assert answered_before(digests(history), plain(beginning)) == expected

    @given(whole)
    def test_the_whole_again_is_new(self, history: str) -> None:
        assert answered_before(digests(history), plain(history)) == 0

    @given(whole, whole)
    def test_only_the_same_words_from_the_first_on_were_answered(self, answered: str, history: str) -> None:
        number = answered_before(digests(answered), plain(history))
        assert number in (0, len(answered), len(history))
        assert number < max(len(answered), len(history))
        assert answered[:number] == history[:number]

    @given(whole, whole, st.integers(0, 4))
    def test_messages_with_ids_of_their_own_were_not_answered_by_their_words(
        self, answered: str, more: str, position: int
    ) -> None:
        history = list(plain(answered + more))
        position %= len(answered)
        history[position] = Message("m1", history[position].content, given=True)
        assert answered_before(digests(answered), history) == 0

    @given(whole)
    def test_the_requests_own_message_may_have_one(self, history: str) -> None:
        own = Message("m1", history[-1], given=True)
        goes_on = (*plain(history[:-1]), own)
        assert answered_before(digests(history[:-1]), goes_on) == len(history) - 1
        beginning = answered_before(digests(history + "a"), goes_on)
        assert beginning == (len(history) if len(history) > 1 else 0)

    def test_nothing_answers_nothing(self) -> None:
        assert answered_before((), plain("ab")) == 0


def plain(history: str) -> tuple[Message, ...]:
    return messages([(word, None) for word in history], "i")


def digests(history: str) -> tuple[str, ...]:
    return tuple(message.digest for message in plain(history))
