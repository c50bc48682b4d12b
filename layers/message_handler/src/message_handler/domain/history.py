"""Histories: reads and writes the platform's format, and makes the AI's context. All functions are pure.

The platform's format is ``<USER>…</USER><br><BOT>…</BOT><br><SALE>…</SALE><br>``. SALE is a human agent. In a
turn's text ``&`` is written ``&amp;``, and ``<`` is written ``&lt;``.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby
from typing import Any

from message_handler.domain.conversations import Role, Turn
from message_handler.domain.text import is_wordless, words_of

_ROLES: dict[str, Role] = {"USER": "user", "BOT": "assistant", "SALE": "sale"}
_TAGS = {role: tag for tag, role in _ROLES.items()}

# A turn, and the separator that the platform puts after it. Every repetition is possessive, and each next step depends
# on `<` alone. So the expression never backtracks, and never searches ahead for a closing tag that may be missing.
_TURN = re.compile(
    r"<(USER|BOT|SALE)>"
    r"([^<]*+(?:<(?!/\1>|(?:USER|BOT|SALE)>)[^<]*+)*+)"
    r"(?:</\1>(?:<br>)?+)?+"
)
_BETWEEN = re.compile(r"<br ?/?>|</(?:USER|BOT|SALE)>")

#: Limits the comparisons of a text with more than twice this number of occurrences. It has two expected places: one as
#: if both histories began at the same turn, one as if both ended there. Only this number of occurrences before and
#: after each place is compared.
REACH = 8

#: Equal for turns that may be the same: role, words, and whether only a turn without an id can match.
type _MatchKey = tuple[Role, str, bool]
#: An archived position, its request position, and the matches after them.
type _Chain = tuple[int, int, _Chain | None]


class _Draft:
    """A turn while its fields are set. A frozen dataclass's `__init__` takes longer than all the rest of parsing."""

    __slots__ = Turn.__slots__
    role: Role
    content: str
    message_id: str | None
    edited_at: float
    unsent: bool
    said_at: float


def parse(text: str) -> tuple[Turn, ...]:
    """The turns of a history in the platform's format, without ids. Never raises. Takes linear time and memory.

    - Tags are upper case and have no attributes. The text between them is kept as it is, with its blanks. Only
      ``&amp;`` and ``&lt;`` are unescaped. So ``parse(render(turns))`` has the same roles and contents as ``turns``.
    - A turn ends at its own closing tag. Because ``<`` in text is escaped, an opening tag inside a turn means that the
      closing tag was forgotten: the turn ends there. The last turn may have no closing tag.
    - Everything else inside a turn is text: another role's closing tag, ``<br>``, HTML.
    - Between turns, ``<br>``, ``<br/>``, ``<br />`` and stray closing tags are separators. Blanks around them, and
      pieces without words, are dropped. A person typed the rest: each piece of other text becomes a patient's turn.

    Roles can't be forged if the platform escapes (invariant 12). If it does not, a patient's text can look like tags.
    """
    pieces = iter(_TURN.split(text))
    before = next(pieces)
    turns: list[Any] = _outside(before) if before else []
    for tag, content, after in zip(pieces, pieces, pieces, strict=False):
        turn = _Draft()
        turn.role = _ROLES[tag]
        turn.content = _unescape(content) if "&" in content else content
        turn.message_id = None
        turn.edited_at = 0.0
        turn.unsent = False
        turn.said_at = 0.0
        turn.__class__ = Turn  # type: ignore[assignment]
        turns.append(turn)
        if after:
            turns += _outside(after)
    return tuple(turns)


def _outside(text: str) -> list[Turn]:
    stripped = (piece.strip() for piece in _BETWEEN.split(text))
    return [Turn("user", _unescape(piece)) for piece in stripped if not is_wordless(piece)]


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&amp;", "&")


def render(turns: Iterable[Turn]) -> str:
    """The turns in the platform's format, each with ``<br>`` after it. Ids are left out."""
    texts = ((_TAGS[turn.role], turn.content.replace("&", "&amp;").replace("<", "&lt;")) for turn in turns)
    return "".join(f"<{tag}>{text}</{tag}><br>" for tag, text in texts)


def split(turns: Sequence[Turn]) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """The context, and the patient's unanswered messages: the user turns after the last assistant or sale turn."""
    end = len(turns)
    while end and turns[end - 1].role == "user":
        end -= 1
    return tuple(turns[:end]), tuple(turns[end:])


def since_the_bot(context: Sequence[Turn], most_sales: int) -> tuple[Turn, ...]:
    """The turns after the last assistant turn, up to the newest sale turn. Empty if no sale turn follows.

    If they have more than `most_sales` sale turns, only the newest of these and what was said between them.
    """
    begin = max((n + 1 for n, turn in enumerate(context) if turn.role == "assistant"), default=0)
    sales = [n + 1 for n, turn in enumerate(context) if turn.role == "sale" and n >= begin]
    if len(sales) > most_sales:
        begin = sales[-most_sales - 1]
    return tuple(context[begin : sales[-1]]) if sales else ()


def trim(
    context: Sequence[Turn], pending: Sequence[Turn], *, max_messages: int = 20, max_characters: int = 10_000
) -> tuple[Turn, ...]:
    """What the model gets: the newest part of the context that fits, then all pending turns.

    Pending turns are never trimmed. The context gets what they leave of both limits. Its turns are taken whole, newest
    first, until one does not fit. Turns without words are skipped and do not count.
    """
    messages = max_messages - len(pending)
    characters = max_characters - sum(len(turn.content) for turn in pending)
    kept: list[Turn] = []
    for turn in reversed(context):
        if is_wordless(turn.content):
            continue
        messages -= 1
        characters -= len(turn.content)
        if messages < 0 or characters < 0:
            break
        kept.append(turn)
    return (*reversed(kept), *pending)


def merge(archived: Sequence[Turn], turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """One conversation, made of the archived turns and the request's version of it.

    Every archived turn is kept once, in order, with its archived text. A turn of the request is known if one of these
    is true:

    - An archived turn has the same role and `message_id`. Text and place do not matter.
    - An archived turn has the same role and words (`words_of`), in the same order, and at least one of the two has no
      id. The most matches that are possible in order are taken (a longest common subsequence). So one odd match spoils
      no other.
    - An archived turn has the same role and words at another place. The turn must be a patient's, occur once in the
      request, and be in an exchange that both sides have. (Messages typed at the same moment are archived in the order
      in which they arrived.)
    - The turn is in a run of unknown assistant turns, and the archive has such a run between the same two matches.
      Then the run is the platform's version of our reply, edited or without its formatting. Runs are paired one to one,
      counted from the match before them. Runs before the first match are counted backwards from that match.

    Every other turn of the request is new. It goes between the same two matches, after the archive's own turns there.
    New turns before the first match also go after the archive's turns there: the request shows only the end of a longer
    history, and its first turns are newer than those that it leaves out. If nothing matches, the whole request follows
    the archive: its turns are new. (They are older only if the request's own messages are archived already.)

    Merging the same turns again changes nothing. It takes O(n log n) time, which has a price:

    - For a text that occurs more than twice `REACH` times, only occurrences near the expected places are compared. A
      turn that is missed there is kept twice.
    - A turn without an id that is both repeated and out of order is kept twice.
    - A new turn that repeats an earlier one can be taken for that one.
    """
    turns = _without_repeated_ids(turns)
    same_id = _match_by_id(archived, turns)
    anchors = _match_in_order(archived, turns, same_id)
    if not anchors:
        return (*archived, *turns)
    moved = _match_out_of_order(archived, turns, same_id, anchors)
    request_places = {i: j for j, i in moved.items()}
    merged: list[Turn] = []
    i = j = 0
    for next_i, next_j in (*anchors, (len(archived), len(turns))):
        ours = _split_at_replies(archived, range(i, next_i), request_places)
        theirs = _split_at_replies(turns, [n for n in range(j, next_j) if n not in moved], {})
        count = min(len(ours), len(theirs))
        ours, theirs = (_join_outermost(chunks, count, from_end=not merged) for chunks in (ours, theirs))
        for number, (kept, new) in enumerate(zip(ours, theirs, strict=True)):
            # Archived turns that the request has after the next match stay next to it, so that exchanges stay whole.
            late = next((n for n, known in enumerate(kept) if request_places.get(known, -1) > next_j), len(kept))
            merged += [archived[n] for n in kept[:late]]
            if number % 2 == 0:  # odd chunks are replies: the archived ones stay
                merged += [turns[n] for n in new]
            merged += [archived[n] for n in kept[late:]]
        merged += archived[next_i : next_i + 1]
        i, j = next_i + 1, next_j + 1
    return tuple(merged)


def _without_repeated_ids(turns: Iterable[Turn]) -> list[Turn]:
    """The turns, without those whose role and id an earlier turn has."""
    first: dict[object, Turn] = {}
    for number, turn in enumerate(turns):
        first.setdefault(number if turn.message_id is None else (turn.role, turn.message_id), turn)
    return list(first.values())


def _match_by_id(archived: Sequence[Turn], turns: Sequence[Turn]) -> dict[int, int]:
    """Request positions, each with the archived position of the same role and id."""
    ids: dict[tuple[Role, str | None], int] = {
        (turn.role, turn.message_id): i for i, turn in enumerate(archived) if turn.message_id is not None
    }
    names = ((turn.role, turn.message_id) for turn in turns)
    return {j: ids[name] for j, name in enumerate(names) if name in ids}


def _request_key(turn: Turn) -> _MatchKey:
    """The key by which a turn of the request is looked up among the archived ones."""
    return turn.role, words_of(turn.content), turn.message_id is not None


def _archived_keys(turn: Turn) -> Iterator[_MatchKey]:
    """The keys under which an archived turn is found."""
    words = words_of(turn.content)
    yield turn.role, words, False
    if turn.message_id is None:
        yield turn.role, words, True


def _match_in_order(archived: Sequence[Turn], turns: Sequence[Turn], same_id: dict[int, int]) -> list[tuple[int, int]]:
    """The longest list of (archived, request) positions of same turns in which both ascend.

    The algorithm is that of Hunt and Szymanski (1977).
    """
    positions: defaultdict[_MatchKey, list[int]] = defaultdict(list)
    by_id = set(same_id.values())
    for i, turn in enumerate(archived):
        if i not in by_id:
            for key in _archived_keys(turn):
                positions[key].append(i)
    total = Counter(_request_key(turn) for j, turn in enumerate(turns) if j not in same_id)
    after: Counter[_MatchKey] = Counter()
    # Works from the end. heads[n] is the latest archived position that n more matches can follow, negated so that the
    # list ascends.
    heads: list[int] = []
    chains: list[_Chain] = []
    for j in reversed(range(len(turns))):
        if j in same_id:
            candidates = [same_id[j]]
        else:
            key = _request_key(turns[j])
            candidates = _near_expected(positions.get(key, []), total[key] - after[key] - 1, after[key])
            after[key] += 1
        for i in candidates:
            length = bisect_left(heads, -i)
            heads[length : length + 1] = [-i]
            chains[length : length + 1] = [(i, j, chains[length - 1] if length else None)]
    anchors = []
    rest = chains[-1] if chains else None
    while rest:
        i, j, rest = rest
        anchors.append((i, j))
    return anchors


def _near_expected(positions: list[int], before: int, after: int) -> list[int]:
    """Those of a text's archived positions that a turn of the request is compared with.

    In the request, the same text occurs `before` times earlier and `after` times later. Archived positions with about
    the same number before or after them are near the expected places. All are compared if there are few.
    """
    if len(positions) <= 2 * REACH:
        return positions
    places = (before, max(0, len(positions) - 1 - after))
    return sorted({i for place in places for i in positions[max(0, place - REACH) : place + REACH]})


def _match_out_of_order(
    archived: Sequence[Turn], turns: Sequence[Turn], same_id: dict[int, int], anchors: Sequence[tuple[int, int]]
) -> dict[int, int]:
    """Request positions of turns that are archived at another place, each with that place.

    They are the same by their ids, or by their words within one exchange.
    """
    in_order = {j for _, j in anchors}
    moved = {j: i for j, i in same_id.items() if j not in in_order}
    by_id = set(same_id.values())
    # An exchange is what a patient says between two other turns. An archived exchange is the same as the request's
    # if it shares matches with that one alone.
    our_exchange = list(accumulate(turn.role != "user" for turn in archived))
    their_exchange = list(accumulate(turn.role != "user" and j not in moved for j, turn in enumerate(turns)))
    shared = {(our_exchange[i], their_exchange[j]) for i, j in anchors if turns[j].role == "user"}
    times = Counter(our for our, _ in shared)
    same_exchange = {our: their for our, their in shared if times[our] == 1}

    candidates: defaultdict[tuple[int | None, _MatchKey], list[int]] = defaultdict(list)
    for i, turn in enumerate(archived):
        if turn.role == "user" and i not in by_id:
            for key in _archived_keys(turn):
                candidates[same_exchange.get(our_exchange[i]), key].append(i)
    times_said = Counter(words_of(turn.content) for turn in turns if turn.role == "user")
    for j, turn in enumerate(turns):
        if j not in in_order and j not in moved and times_said[words_of(turn.content)] == 1:
            found = candidates.get((their_exchange[j], _request_key(turn)))
            if found:
                moved[j] = found[-1]
    return moved


def _split_at_replies(turns: Sequence[Turn], gap: Iterable[int], known: Container[int]) -> list[list[int]]:
    """The positions in `gap` in chunks: others, unknown replies, others, …, others. The number of chunks is odd."""
    chunks: list[list[int]] = [[]]
    for replies, run in groupby(gap, lambda n: turns[n].role == "assistant" and n not in known):
        if replies:
            chunks += [[*run], []]
        else:
            chunks[-1] += run
    return chunks


def _join_outermost(chunks: list[list[int]], count: int, *, from_end: bool) -> list[list[int]]:
    """The chunks, reduced to `count` by joining the first ones (`from_end`) or the last ones into one."""
    if from_end:
        rest = len(chunks) - count + 1
        return [[*chain.from_iterable(chunks[:rest])], *chunks[rest:]]
    return [*chunks[: count - 1], [*chain.from_iterable(chunks[count - 1 :])]]
