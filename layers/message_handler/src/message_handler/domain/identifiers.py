"""Identifiers of platforms, conversations, bots, jobs and messages: their rules, and how new ones are made."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from functools import lru_cache

#: Each Redis key of a conversation has the number of its shard as hash tag. So all of them are in one cluster slot.
SHARDS = 1024
#: The tenant of a request that names none.
DEFAULT_PLATFORM = "default"
#: A regular expression for the ids of platforms, bots and AI cores, and for correlation ids.
IDENTIFIER = r"[A-Za-z0-9._:@-]{1,255}"
IDENTIFIER_RULE = "must be 1 to 255 characters out of A-Z a-z 0-9 . _ : @ -"
_IDENTIFIER = re.compile(IDENTIFIER, re.ASCII)
#: A regular expression for the ids of conversations, as channels make them: what RFC 3986 allows in a segment of a
#: path, and `|`. `%` is never part of an id, so decoding a decoded id again changes nothing.
CONVERSATION_ID = r"[A-Za-z0-9._~!$&'()*+,;=:@|-]{1,255}"
CONVERSATION_ID_RULE = "must be 1 to 255 characters out of A-Z a-z 0-9 . _ ~ ! $ & ' ( ) * + , ; = : @ | -"
_CONVERSATION_ID = re.compile(CONVERSATION_ID, re.ASCII)
#: The whole ARN of a secret in Secrets Manager, with the six characters that AWS adds to the name. A part of one could
#: name another secret later.
SECRET_ARN = re.compile(
    r"arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):\d{12}:secret:(?P<name>[A-Za-z0-9/_+=.@-]+)-[A-Za-z0-9]{6}",
    re.ASCII,
)


def is_identifier(value: object) -> bool:
    """Whether `value` can be the id of a platform, bot or AI core (see `IDENTIFIER_RULE`)."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def is_conversation_id(value: object) -> bool:
    """Whether `value` can be the id of a conversation (see `CONVERSATION_ID_RULE`)."""
    return isinstance(value, str) and _CONVERSATION_ID.fullmatch(value) is not None


def new_id() -> str:
    """A UUIDv4. (`uuid.uuid4()` takes four times as long.)

    It comes from the system's randomness. So processes that were forked, or restored from one snapshot, never make the
    same id.
    """
    return uuid_of(os.urandom(16), "4")


def uuid_of(bits: bytes, version: str) -> str:
    """The UUID of 16 bytes, with the version and the variant set (RFC 9562)."""
    digits = bits.hex()
    variant = "89ab"[bits[8] & 3]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@lru_cache(1000)  # each step needs the shard of its conversation
def shard_of(name: str) -> int:
    """The shard of a conversation, 0 to 1023; `name` is its key as one text."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=2).digest()) % SHARDS


def shard_of_job(job_id: str) -> int | None:
    """The shard that a job's id names (see `ConversationKey.new_job_id`); None for an id of another kind."""
    try:
        value = uuid.UUID(job_id)
    except (ValueError, TypeError, AttributeError):  # not a UUID, or not text
        return None
    return value.int >> 118 if value.version == 8 and str(value) == job_id else None


def digest_of(text: str) -> str:
    """The digest that stands for a text: 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def is_arn(value: str) -> bool:
    """Whether a value is the ARN of a secret in Secrets Manager. Then it names a secret, and is not one itself."""
    return SECRET_ARN.fullmatch(value) is not None
