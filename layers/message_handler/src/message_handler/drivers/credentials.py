"""Logins at the stores whose URL holds no password: from a secret that rotates, or with an IAM token."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

from message_handler.domain.errors import SettingsError, Unavailable
from message_handler.drivers.aws import session
from message_handler.drivers.secrets import REREAD_SECONDS, SecretsManager

#: How long a token is valid: the longest that AWS allows. An open connection outlives it.
TOKEN_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Login:
    """A user (None: the server's default one) and a password, which `repr` leaves out."""

    user: str | None
    password: str = field(repr=False)


class Credentials(Protocol):
    """What a new connection logs in with."""

    def login(self) -> Login:
        """Raises Unavailable."""

    def renewed(self, refused: Login) -> Login | None:
        """A login other than the `refused` one, if there is one by now, else None. Raises nothing."""


class SecretLogin:
    """A login kept in Secrets Manager. It is read at its first use, and again when a server refuses it.

    The secret is the password alone, or JSON with `password` and optionally `username`, as RDS and Secrets Manager
    write it. `user` is used if the secret has no `username`. `of` names the store in error texts.
    """

    def __init__(
        self,
        arn: str,
        of: str,
        user: str | None = None,
        *,
        manager: SecretsManager | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arn = arn
        self._of = of
        self._user = user
        self._manager = manager or SecretsManager()
        self._clock = clock
        self._mutex = threading.Lock()
        self._known: Login | None = None
        self._read_at = -math.inf

    def login(self) -> Login:
        with self._mutex:
            if self._known is None and self._clock() < self._read_at + REREAD_SECONDS:
                # Fail fast: threads queued behind a failed read would each repeat its timeout.
                raise Unavailable("Secrets Manager")
            return self._known or self._read()

    def renewed(self, refused: Login) -> Login | None:
        # One thread at a time, and at most once a second: a server may refuse all connections at once, and for good.
        with self._mutex:
            if self._known in (None, refused) and self._clock() >= self._read_at + REREAD_SECONDS:
                try:
                    self._read()
                except Unavailable:
                    return None
            return self._known if self._known != refused else None

    def _read(self) -> Login:
        try:
            self._known = _parsed(self._manager.read(self._arn), self._user)
        finally:
            self._read_at = self._clock()
        if self._known is None:
            raise Unavailable(f"the password of {self._of} (its secret has none)")
        return self._known


def _parsed(secret: str, user: str | None) -> Login | None:
    try:
        found = json.loads(secret)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        found = {"password": secret}
    password = found.get("password")
    return Login(found.get("username") or user, password) if password and isinstance(password, str) else None


class IamLogin:
    """An IAM token in place of a password. It is signed in this process, anew for each connection.

    The token is a signed request of `url` and `query` to the AWS service `service`. `setting` is the setting to name
    in errors. Raises SettingsError if no region is set.
    """

    def __init__(self, user: str, service: str, url: str, query: dict[str, str], setting: str) -> None:
        self._user = user
        self._service = service
        self._url = f"{url}/?{urlencode(query)}"
        # The process's session, which the queue's client uses too.
        self._session: Any = session()
        self._region = self._session.get_config_variable("region")
        if not self._region:
            raise SettingsError(f"bad settings: {setting} needs AWS_DEFAULT_REGION")
        self._mutex = threading.Lock()

    def login(self) -> Login:
        # Imported here: only deployments with IAM logins sign tokens.
        from botocore.auth import SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        try:
            with self._mutex:  # the session is not safe for several threads
                credentials = self._session.get_credentials()
            if credentials is None:
                raise Unavailable("AWS credentials to sign a token with")
            request = AWSRequest("GET", self._url)
            SigV4QueryAuth(credentials.get_frozen_credentials(), self._service, self._region, TOKEN_SECONDS).add_auth(
                request
            )
        except BotoCoreError:  # the source of the credentials did not answer
            raise Unavailable("AWS credentials to sign a token with") from None
        return Login(self._user, str(request.url).partition("://")[2])

    def renewed(self, refused: Login) -> Login | None:
        return None


def rds_login(user: str, host: str, port: int) -> IamLogin:
    """For RDS and RDS Proxy. Does what `generate_db_auth_token` does, without loading the description of all of RDS.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html
    """
    query = {"Action": "connect", "DBUser": user}
    return IamLogin(user, "rds-db", f"https://{host}:{port}", query, "DATABASE_IAM")


def elasticache_login(user: str, cache: str) -> IamLogin:
    """For an ElastiCache replication group, by its id.

    https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html
    """
    query = {"Action": "connect", "User": user}
    return IamLogin(user, "elasticache", f"http://{cache}", query, "REDIS_IAM_CACHE")
