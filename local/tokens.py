"""Issues access tokens like Cognito's, with a signing key in this folder: `python -m local.tokens --tenant clinic-a`.

`make token` calls it. A host with `AUTH=1` in the same folder accepts these tokens and no others.
https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local.intrinsics import REGION

KEY_FILE = Path(".local/token-key.pem")
ISSUER = f"https://cognito-idp.{REGION}.amazonaws.com/{REGION}_local"
_ALGORITHM = "RS256"


class TokenExpiredError(Exception):
    """The token has expired."""


class TokenRefusedError(Exception):
    """The token is not one of this issuer."""


class Issuer:
    """Signs and verifies tokens with the key in `key_file`. A missing key is made; only its owner may read it."""

    def __init__(self, key_file: Path = KEY_FILE) -> None:
        self._key_file = key_file

    def issue(
        self,
        tenants: Sequence[str] = (),
        scopes: Sequence[str] = (),
        *,
        expires: float = 3600,
        user: str | None = None,
        **changes: Any,
    ) -> str:
        """A platform's token, or a person's with `user`, valid for `expires` seconds. `changes` replace claims."""
        now, client_id = int(time.time()), "local-operators" if user else f"local-{'-'.join(tenants)}"
        granted = [f"message-handler/{scope}" for scope in scopes]
        named = [f"tenant/{tenant}" for tenant in tenants]
        person = {
            "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{ISSUER}/{user}")),
            "username": user,
            "cognito:groups": named,
        }
        claims = {
            "sub": client_id,
            "client_id": client_id,
            "token_use": "access",
            "scope": " ".join(granted if user else [*granted, *named]),
            "auth_time": now,
            "iat": now,
            "exp": int(now + expires),
            "iss": ISSUER,
            "version": 2,
            "jti": str(uuid.uuid4()),
        }
        claims |= (person if user else {}) | changes
        return jwt.encode(claims, self._key, _ALGORITHM)

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token. Raises TokenExpiredError or TokenRefusedError."""
        required = ["exp", "iss", "sub", "token_use"]
        try:
            return dict(
                jwt.decode(
                    token,
                    self._key.public_key(),
                    algorithms=[_ALGORITHM],
                    issuer=ISSUER,
                    options={"require": required, "verify_aud": False},
                )
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenExpiredError("the token has expired") from error
        except jwt.InvalidTokenError as error:
            raise TokenRefusedError("the token is not valid") from error

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        if not self._key_file.exists():
            _make_key(self._key_file)
        key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return key


def _make_key(file: Path) -> None:
    """Write a new key, all of it or nothing. Of two processes at the same time the first one wins."""
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent) as own:  # only its owner can read it
        own.write(pem)
        own.flush()
        with suppress(FileExistsError):
            os.link(own.name, file)


def main(arguments: list[str] | None = None) -> int:
    """Print one token."""
    parser = argparse.ArgumentParser(
        prog="python -m local.tokens", description="Print an access token for a host with AUTH=1."
    )
    parser.add_argument("--tenant", action="append", default=[], help="a tenant of the token; may be repeated")
    parser.add_argument(
        "--scope",
        action="append",
        choices=["messages", "admin", "deployment"],
        help="a scope of the token; may be repeated (default: messages)",
    )
    parser.add_argument(
        "--user", help="make the token of this person instead of a platform's: tenants are groups, as in Cognito"
    )
    parser.add_argument(
        "--expires",
        type=float,
        default=3600,
        help="seconds until it expires; a negative number makes an expired token (default: 3600)",
    )
    options = parser.parse_args(arguments)
    scopes = options.scope or ["messages"]
    print(Issuer().issue(options.tenant, scopes, expires=options.expires, user=options.user))
    return 0


if __name__ == "__main__":
    sys.exit(main())
