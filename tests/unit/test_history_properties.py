"""Properties of any history, in whatever way its platform writes it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from message_handler.domain.conversations import Role, Turn
from message_handler.domain.history import merge, parse, render, split, trim
from message_handler.domain.text import is_wordless

ROLES: dict[str, Role] = {"USER": "user", "BOT": "assistant", "SALE": "sale"}
TAGS = [f"<{slash}{name}>" for name in ROLES for slash in ("", "/")]
BREAKS = ["<br>", "<br/>", "<br />"]
NEARLY = ["<", ">", "/", "</", "<br", "<br ", "<user>", "<USER", "USER>", "< BOT>", "<BOT/>", "<Br>"]
ENTITIES = ["&", ";", "&amp;", "&lt;", "&gt;", "amp;", "lt;", "&amp;lt;", "&amp;amp;", "&#60;"]
BLANKS = [" ", "\n", "\t", "\u00a0", "\u2028", "\x1c", "\u200b", "\x00"]

any_text = st.text(st.characters())  # lone surrogates among them
fragments = st.sampled_from(TAGS * 3 + BREAKS * 2 + NEARLY + ENTITIES + BLANKS + ["a", "b", "đau"])
soups = st.lists(fragments | any_text, max_size=30).map("".join)
typed = soups | any_text
roles = st.sampled_from(sorted(ROLES.values()))
spoken = st.lists(st.builds(Turn, roles, typed), max_size=8)

# Few texts and few ids, so that many turns are alike: the same ones, or others by chance.
alike = st.builds(Turn, roles, st.sampled_from("xyz"))
any_turn = st.builds(Turn, roles, st.sampled_from("xyz"), st.none() | st.sampled_from("12345"))
few_alike = st.lists(alike, max_size=10)
few_turns = st.lists(any_turn, max_size=10)

thorough = settings(max_examples=200, deadline=None)


def slowly(text: str) -> tuple[Turn, ...]:
    """The result of `parse`, read one character after the other."""
    turns: list[Turn] = []
    role: Role | None = None
    content, position = "", 0

    def end_turn() -> None:
        said = content if role else content.strip()
        if role or not is_wordless(said):
            turns.append(Turn(role or "user", said.replace("&lt;", "<").replace("&amp;", "&")))

    while position < len(text):
        tag = re.compile("<(/?)(USER|BOT|SALE)>").match(text, position)
        separator = re.compile("<br ?/?>|</(?:USER|BOT|SALE)>").match(text, position)
        if tag and not tag[1]:
            end_turn()
            role, content, position = ROLES[tag[2]], "", tag.end()
        elif (tag and ROLES[tag[2]] == role) or (separator and role is None):
            end_turn()
            role, content, position = None, "", (tag or separator).end()  # type: ignore[union-attr]
        else:
            content += text[position]
            position += 1
    end_turn()
    return tuple(turns)


def is_part(part: Iterable[Turn], whole: Iterable[Turn]) -> bool:
    """Whether these turns are in the whole, each once, in this order."""
    rest = iter(whole)
    return all(any(turn is other for other in rest) for turn in part)


def among(turn: Turn, turns: Iterable[Turn]) -> bool:
    return any(turn is other for other in turns)


class TestParse:
    @thorough
    @given(any_text | soups)
    def test_no_string_raises(self, text: str) -> None:
        assert all(type(turn) is Turn and turn.message_id is None for turn in parse(text))

    @thorough
    @given(soups)
    def test_the_fast_reading_is_the_slow_one(self, text: str) -> None:
        assert parse(text) == slowly(text)

    @thorough
    @given(spoken)
    def test_what_is_rendered_is_read_back(self, turns: list[Turn]) -> None:
        assert parse(render(turns)) == tuple(turns)

    @given(soups)
    def test_what_was_read_once_is_read_the_same_again(self, text: str) -> None:
        assert parse(render(parse(text))) == parse(text)

    @thorough
    @given(spoken, typed, spoken)
    def test_text_typed_by_a_patient_never_changes_roles(
        self, before: list[Turn], text: str, after: list[Turn]
    ) -> None:
        turns = parse(render([*before, Turn("user", text), *after]))
        assert [turn.role for turn in turns] == [turn.role for turn in (*before, Turn("user", ""), *after)]
        assert turns[len(before)].content == text

    @given(st.lists(st.sampled_from(TAGS + BREAKS + NEARLY + BLANKS) | st.just("word"), max_size=30))
    def test_nothing_that_was_typed_is_dropped_or_doubled(self, pieces: list[str]) -> None:
        numbered = [f"{piece}{number}," if piece == "word" else piece for number, piece in enumerate(pieces)]
        said = "".join(turn.content for turn in parse("".join(numbered)))
        assert re.findall(r"word\d+,", said) == [piece for piece in numbered if piece.startswith("word")]


class TestSplit:
    @given(spoken)
    def test_context_and_messages_are_the_whole(self, turns: list[Turn]) -> None:
        context, messages = split(turns)
        assert (*context, *messages) == tuple(turns)
        assert all(turn.role == "user" for turn in messages)
        assert not context or context[-1].role != "user"


class TestMerge:
    @thorough
    @given(few_turns, few_turns)
    def test_every_archived_turn_is_kept_once_and_in_order(self, archived: list[Turn], turns: list[Turn]) -> None:
        merged = merge(archived, turns)
        assert [turn for turn in merged if not among(turn, turns)] == archived
        assert is_part(archived, merged)

    @thorough
    @given(few_turns, few_turns)
    def test_what_a_request_adds_keeps_its_order(self, archived: list[Turn], turns: list[Turn]) -> None:
        assert is_part([turn for turn in merge(archived, turns) if not among(turn, archived)], turns)

    @thorough
    @given(few_turns, few_turns)
    def test_every_turn_of_a_request_is_there_or_known(self, archived: list[Turn], turns: list[Turn]) -> None:
        merged = merge(archived, turns)
        known = Counter((turn.role, turn.content) for turn in archived)
        ids = {(turn.role, turn.message_id) for turn in merged if turn.message_id}
        for turn in turns:
            if among(turn, merged) or (turn.role, turn.message_id) in ids:
                continue
            if turn.message_id:
                ids.add((turn.role, turn.message_id))
            if turn.role != "assistant":
                # Each archived turn stands for one of the request's.
                known[turn.role, turn.content] -= 1
                assert known[turn.role, turn.content] >= 0
            else:
                assert any(other.role == "assistant" for other in archived)

    @thorough
    @given(few_turns, few_turns)
    def test_no_id_is_there_twice(self, archived: list[Turn], turns: list[Turn]) -> None:
        added = [turn for turn in merge(archived, turns) if not among(turn, archived)]
        ids = [(turn.role, turn.message_id) for turn in added if turn.message_id]
        assert len(ids) == len(set(ids))
        assert not set(ids) & {(turn.role, turn.message_id) for turn in archived}

    @settings(max_examples=600, deadline=None)
    @given(few_turns, few_turns)
    def test_merging_again_changes_nothing(self, archived: list[Turn], turns: list[Turn]) -> None:
        merged = merge(archived, turns)
        assert merge(merged, turns) == merged

    @thorough
    @given(few_alike, st.data())
    def test_a_part_of_what_is_archived_adds_nothing(self, archived: list[Turn], data: st.DataObject) -> None:
        assert merge(archived, some_of(archived, data)) == tuple(archived)

    @thorough
    @given(few_alike, st.data())
    def test_a_whole_history_is_the_conversation(self, whole: list[Turn], data: st.DataObject) -> None:
        archived = some_of(whole, data)
        assert merge(archived, whole) == tuple(whole)

    @thorough
    @given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 3), st.data())
    def test_messages_in_any_order_of_arrival_are_kept_once(
        self, exchanges: list[int], new: int, data: st.DataObject
    ) -> None:
        archived: list[Turn] = []
        whole: list[Turn] = []
        for number, size in enumerate(exchanges):
            said = [Turn("user", f"{number}.{n}") for n in range(size)]
            archived += [*data.draw(st.permutations(said)), Turn("assistant", f"{number}")]
            whole += [*said, Turn("assistant", f"{number}")]
        unknown = [Turn("sale", "new"), *(Turn("user", f"new {n}") for n in range(new))]
        assert merge(archived, whole + unknown) == (*archived, *unknown)

    @thorough
    @given(st.lists(st.tuples(roles, st.sampled_from("xyz"), st.booleans()), max_size=10), st.data())
    def test_messages_with_ids_are_kept_once_in_any_order(
        self, said: list[tuple[Role, str, bool]], data: st.DataObject
    ) -> None:
        turns = [(Turn(role, text, f"m{n}"), old) for n, (role, text, old) in enumerate(said)]
        archived = data.draw(st.permutations([turn for turn, old in turns if old]))
        shuffled = data.draw(st.permutations([turn for turn, _ in turns]))
        merged = merge(archived, shuffled)
        counted = Counter(turn.message_id for turn in merged)
        assert set(counted.values()) <= {1}
        missing = {turn.message_id for turn, _ in turns} - set(counted)
        # Only the platform's version of a reply could be missing, and here the archive has all replies.
        assert not missing


class TestTrim:
    @thorough
    @given(
        spoken, st.lists(st.builds(Turn, st.just("user"), typed), max_size=4), st.integers(0, 10), st.integers(0, 60)
    )
    def test_the_limits_hold_and_all_that_fits_is_there(
        self, context: list[Turn], pending: list[Turn], messages: int, characters: int
    ) -> None:
        trimmed = trim(context, pending, max_messages=messages, max_characters=characters)
        kept = trimmed[: len(trimmed) - len(pending)]
        assert trimmed[len(kept) :] == tuple(pending)

        said = tuple(turn for turn in context if not is_wordless(turn.content))
        assert kept == said[len(said) - len(kept) :]
        assert not kept or fits(trimmed, messages, characters)
        if len(kept) < len(said):
            assert not fits((said[-len(kept) - 1], *trimmed), messages, characters)


def some_of(turns: Sequence[Turn], data: st.DataObject) -> list[Turn]:
    chosen = data.draw(st.lists(st.booleans(), min_size=len(turns), max_size=len(turns)))
    return [turn for turn, is_chosen in zip(turns, chosen, strict=True) if is_chosen]


def fits(turns: Sequence[Turn], messages: int, characters: int) -> bool:
    return len(turns) <= messages and sum(len(turn.content) for turn in turns) <= characters
