"""What names things: platforms, conversations, jobs and messages."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from functools import lru_cache

#: Every key of a shard carries its number as hash tag, so that one conversation stays in one cluster slot.
SHARDS = 1024
DEFAULT_PLATFORM = "default"
#: A regular expression for the ids of conversations, platforms and bots.
IDENTIFIER = r"[A-Za-z0-9._:@-]{1,255}"
IDENTIFIER_RULE = "must be 1 to 255 of A-Z a-z 0-9 . _ : @ -"
_IDENTIFIER = re.compile(IDENTIFIER, re.ASCII)
#: A whole ARN of a secret in Secrets Manager.
SECRET_ARN = re.compile(
    r"arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):\d{12}:secret:(?P<name>[A-Za-z0-9/_+=.@-]+)", re.ASCII
)


def is_identifier(value: object) -> bool:
    """Whether `value` can name a conversation, platform or bot: 1 to 255 of ``A-Z a-z 0-9 . _ : @ -``."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def new_id() -> str:
    """A UUIDv4, as `uuid.uuid4()` makes it in four times the time.

    From the system's own randomness: a process that was restored from a snapshot, or forked, repeats none.
    """
    return uuid_of(os.urandom(16), "4")


def uuid_of(bits: bytes, version: str) -> str:
    digits = bits.hex()
    variant = "89ab"[bits[8] & 3]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@lru_cache(1000)  # each step asks for that of its keys
def shard_of(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=2).digest()) % SHARDS


def shard_of_job(job_id: str) -> int | None:
    """The shard that a job id names, or None where the id is none of ours."""
    try:
        value = uuid.UUID(job_id)
    except (ValueError, TypeError, AttributeError):  # no UUID, no text
        return None
    return value.int >> 118 if value.version == 8 and str(value) == job_id else None


def digest_of(text: str) -> str:
    """Stands for a text: 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def is_arn(value: str) -> bool:
    """Whether a value names a secret in Secrets Manager: then it is none itself."""
    return SECRET_ARN.fullmatch(value) is not None
