"""What was said: reading and writing the platform's format, and making the AI's context out of it.

The platform's format is ``<USER>…</USER><br><BOT>…</BOT><br><SALE>…</SALE><br>``, in which ``&`` and ``<``
are written ``&amp;`` and ``&lt;``. SALE is a human agent. All functions are pure.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby
from typing import Any

from message_handler.domain.conversations import Role, Turn

_ROLES: dict[str, Role] = {"USER": "user", "BOT": "assistant", "SALE": "sale"}
_TAGS = {role: tag for tag, role in _ROLES.items()}

# A turn, and the separator that the platform puts after it. Every repetition is possessive and `<` alone decides
# how it goes on, so no input makes it go back, and nothing searches ahead for a closing tag that may be missing.
_TURN = re.compile(
    r"<(USER|BOT|SALE)>"
    r"([^<]*+(?:<(?!/\1>|(?:USER|BOT|SALE)>)[^<]*+)*+)"
    r"(?:</\1>(?:<br>)?+)?+"
)
_BETWEEN = re.compile(r"<br ?/?>|</(?:USER|BOT|SALE)>")

#: A text said more than twice this often is looked for among this many of its occurrences on either
#: side of where it would be if both histories began, or ended, at the same turn.
REACH = 8

#: Role, content, and whether only a turn without an id can be the same.
type _Alike = tuple[Role, str, bool]
#: An archived and a request position, and the matches after them.
type _Chain = tuple[int, int, _Chain | None]


class _Draft:
    """A turn while it is filled in: a frozen dataclass's `__init__` takes longer than all the rest of parsing."""

    __slots__ = Turn.__slots__
    role: Role
    content: str
    message_id: str | None


def parse(text: str) -> tuple[Turn, ...]:
    """The turns of a history in the platform's format, without ids. Never raises; linear in time and memory.

    - Tags are upper case and bare, as above. Content is kept as it stands between them, blanks and all, but
      ``&amp;`` and ``&lt;``, and only these, are undone: ``parse(render(turns))`` gives all roles and contents.
    - A turn ends at its own closing tag. An opening tag of any role inside of it means that the closing tag
      was forgotten, as ``<`` in text is escaped: the turn ends there. The last turn may stay open to the end.
    - All else inside a turn is text: another role's closing tag, ``<br>``, HTML.
    - Between turns, ``<br>``, ``<br/>``, ``<br />`` and stray closing tags separate, and blanks around them are
      dropped. All else that stands there somebody typed: each piece becomes a patient's turn of its own.

    Raw text that was pasted between tags can't be told from tags: roles are safe where the platform escapes.
    """
    pieces = iter(_TURN.split(text))
    before = next(pieces)
    turns: list[Any] = _outside(before) if before else []
    for tag, content, after in zip(pieces, pieces, pieces, strict=False):
        turn = _Draft()
        turn.role = _ROLES[tag]
        turn.content = _unescape(content) if "&" in content else content
        turn.message_id = None
        turn.__class__ = Turn  # type: ignore[assignment]
        turns.append(turn)
        if after:
            turns += _outside(after)
    return tuple(turns)


def _outside(text: str) -> list[Turn]:
    stripped = (piece.strip() for piece in _BETWEEN.split(text))
    return [Turn("user", _unescape(piece)) for piece in stripped if piece]


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&amp;", "&")


def render(turns: Iterable[Turn]) -> str:
    """The turns in the platform's format, each followed by ``<br>``; ids are left out."""
    texts = ((_TAGS[turn.role], turn.content.replace("&", "&amp;").replace("<", "&lt;")) for turn in turns)
    return "".join(f"<{tag}>{text}</{tag}><br>" for tag, text in texts)


def split(turns: Sequence[Turn]) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """The context and the patient's messages: the user turns after the last assistant or sale turn, if any."""
    end = len(turns)
    while end and turns[end - 1].role == "user":
        end -= 1
    return tuple(turns[:end]), tuple(turns[end:])


def since_the_bot(context: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns after the last assistant turn, up to the newest sale turn; nothing if there is none."""
    begin = max((n + 1 for n, turn in enumerate(context) if turn.role == "assistant"), default=0)
    end = max((n + 1 for n, turn in enumerate(context) if turn.role == "sale"), default=0)
    return tuple(context[begin:end])


def trim(
    context: Sequence[Turn], pending: Sequence[Turn], *, max_messages: int = 20, max_characters: int = 10_000
) -> tuple[Turn, ...]:
    """What the model gets: the newest context that fits, then all pending turns.

    Pending turns are never trimmed and count first. Of the context only whole turns are taken, from the end up
    to the first that does not fit; blank ones are skipped and count for nothing.
    """
    messages = max_messages - len(pending)
    characters = max_characters - sum(len(turn.content) for turn in pending)
    kept: list[Turn] = []
    for turn in reversed(context):
        if not turn.content.strip():
            continue
        messages -= 1
        characters -= len(turn.content)
        if messages < 0 or characters < 0:
            break
        kept.append(turn)
    return (*reversed(kept), *pending)


def merge(archived: Sequence[Turn], turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """One conversation out of our archive and the request's version of it.

    Every archived turn is kept, in order, once, with its own text. A turn of the request is known if

    - an archived turn has its role and `message_id`, whatever the text and the place; or
    - one has its role and content, unless both have ids, in the same order. Of all ways to match in order one
      with the most matches is taken (a longest common subsequence): an odd match costs no more than itself; or
    - as before but out of order: a patient's turn that the request has once, in an exchange that both have.
      Messages typed at once may have been archived as they arrived; or
    - it is in a run of unknown assistant turns, and between the same two matches the archive has one that the
      request lacks: that is the platform's version of our reply, edited or stripped of formatting. Runs are
      paired one to one from the match before them (before the first match: from that one, backwards).

    All others are kept, between the matches that they stand between in the request and after the archive's own
    turns there. So what a request has before its first match comes first only if the archive has nothing there:
    else the request is a window, and what it begins with is newer than what it left out.
    If nothing matches, all of the request follows the archive: it is only what is new, or a window that begins
    after our last turn. (It is older only where the messages that it was sent for are archived already.)

    Merging the same turns again changes nothing. Takes O(n log n), for which there is a limit: of a text said
    more than twice `REACH` times, only occurrences about the expected places are compared, and a turn missed
    there is kept twice. So is, without ids, one that is both repeated and out of order; and one that only
    repeats an earlier turn can be taken for it.
    """
    turns = _once(turns)
    named = _named(archived, turns)
    anchors = _in_order(archived, turns, named)
    if not anchors:
        return (*archived, *turns)
    moved = _moved(archived, turns, named, anchors)
    places = {i: j for j, i in moved.items()}
    merged: list[Turn] = []
    i = j = 0
    for next_i, next_j in (*anchors, (len(archived), len(turns))):
        ours = _around_replies(archived, range(i, next_i), places)
        theirs = _around_replies(turns, [n for n in range(j, next_j) if n not in moved], {})
        runs = min(len(ours), len(theirs))
        ours, theirs = (_shorten(chunks, runs, from_end=not merged) for chunks in (ours, theirs))
        for number, (kept, new) in enumerate(zip(ours, theirs, strict=True)):
            # ours that the request has after the next match stay beside it: one exchange stays one
            late = next((n for n, known in enumerate(kept) if places.get(known, -1) > next_j), len(kept))
            merged += [archived[n] for n in kept[:late]]
            if number % 2 == 0:  # odd chunks are replies, of which ours stand
                merged += [turns[n] for n in new]
            merged += [archived[n] for n in kept[late:]]
        merged += archived[next_i : next_i + 1]
        i, j = next_i + 1, next_j + 1
    return tuple(merged)


def _once(turns: Iterable[Turn]) -> list[Turn]:
    """Without those whose role and id came before."""
    first: dict[object, Turn] = {}
    for number, turn in enumerate(turns):
        first.setdefault(number if turn.message_id is None else (turn.role, turn.message_id), turn)
    return list(first.values())


def _named(archived: Sequence[Turn], turns: Sequence[Turn]) -> dict[int, int]:
    """Request positions to archived ones of the same role and id."""
    ids: dict[tuple[Role, str | None], int] = {
        (turn.role, turn.message_id): i for i, turn in enumerate(archived) if turn.message_id is not None
    }
    names = ((turn.role, turn.message_id) for turn in turns)
    return {j: ids[name] for j, name in enumerate(names) if name in ids}


def _wanted(turn: Turn) -> _Alike:
    return turn.role, turn.content, turn.message_id is not None


def _offered(turn: Turn) -> Iterator[_Alike]:
    yield turn.role, turn.content, False
    if turn.message_id is None:
        yield turn.role, turn.content, True


def _in_order(archived: Sequence[Turn], turns: Sequence[Turn], named: dict[int, int]) -> list[tuple[int, int]]:
    """The most (archived, request) positions of same turns so that both ascend (Hunt and Szymanski, 1977)."""
    alike: defaultdict[_Alike, list[int]] = defaultdict(list)
    by_id = set(named.values())
    for i, turn in enumerate(archived):
        if i not in by_id:
            for key in _offered(turn):
                alike[key].append(i)
    total = Counter(_wanted(turn) for j, turn in enumerate(turns) if j not in named)
    after: Counter[_Alike] = Counter()
    # From the end: heads[n] is the latest archived position that n matches can follow, negated to ascend.
    heads: list[int] = []
    chains: list[_Chain] = []
    for j in reversed(range(len(turns))):
        if j in named:
            candidates = [named[j]]
        else:
            key = _wanted(turns[j])
            candidates = _near(alike.get(key, []), total[key] - after[key] - 1, after[key])
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


def _near(positions: list[int], before: int, after: int) -> list[int]:
    """Those about the place with so many of the same `before`, or `after`; all if they are few."""
    if len(positions) <= 2 * REACH:
        return positions
    places = (before, max(0, len(positions) - 1 - after))
    return sorted({i for place in places for i in positions[max(0, place - REACH) : place + REACH]})


def _moved(
    archived: Sequence[Turn], turns: Sequence[Turn], named: dict[int, int], anchors: Sequence[tuple[int, int]]
) -> dict[int, int]:
    """Request positions to archived ones of the same turns that stand elsewhere: by id, or in one exchange."""
    in_order = {j for _, j in anchors}
    moved = {j: i for j, i in named.items() if j not in in_order}
    by_id = set(named.values())
    # An exchange is what a patient says between two other turns. Ours is theirs if it is nobody else's.
    our_exchange = list(accumulate(turn.role != "user" for turn in archived))
    their_exchange = list(accumulate(turn.role != "user" and j not in moved for j, turn in enumerate(turns)))
    shared = {(our_exchange[i], their_exchange[j]) for i, j in anchors if turns[j].role == "user"}
    times = Counter(our for our, _ in shared)
    same_exchange = {our: their for our, their in shared if times[our] == 1}

    waiting: defaultdict[tuple[int | None, _Alike], list[int]] = defaultdict(list)
    for i, turn in enumerate(archived):
        if turn.role == "user" and i not in by_id:
            for key in _offered(turn):
                waiting[same_exchange.get(our_exchange[i]), key].append(i)
    said = Counter(turn.content for turn in turns if turn.role == "user")
    for j, turn in enumerate(turns):
        if said[turn.content] == 1 and j not in in_order and j not in moved:
            found = waiting.get((their_exchange[j], _wanted(turn)))
            if found:
                moved[j] = found[-1]
    return moved


def _around_replies(turns: Sequence[Turn], gap: Iterable[int], known: Container[int]) -> list[list[int]]:
    """The positions in `gap` in chunks: others, run of unknown replies, others, …, others; an odd number."""
    chunks: list[list[int]] = [[]]
    for replies, run in groupby(gap, lambda n: turns[n].role == "assistant" and n not in known):
        if replies:
            chunks += [[*run], []]
        else:
            chunks[-1] += run
    return chunks


def _shorten(chunks: list[list[int]], length: int, *, from_end: bool) -> list[list[int]]:
    """To `length` chunks, counted from the end or the start, by joining the rest to the outermost."""
    if from_end:
        rest = len(chunks) - length + 1
        return [[*chain.from_iterable(chunks[:rest])], *chunks[rest:]]
    return [*chunks[: length - 1], [*chain.from_iterable(chunks[length - 1 :])]]
