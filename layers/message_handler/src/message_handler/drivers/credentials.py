"""How the service logs in at its stores where no URL holds the password: a secret that rotates, or a token of IAM."""

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
from message_handler.drivers.secrets import AGAIN_SECONDS, SecretsManager

#: How long a server takes a token, which is as long as AWS allows; a connection that has begun goes on without it.
TOKEN_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Login:
    """A user, None for the server's default one, and the password, which it doesn't show."""

    user: str | None
    password: str = field(repr=False)


class Credentials(Protocol):
    """What a new connection logs in with."""

    def login(self) -> Login:
        """Raises Unavailable."""

    def renewed(self, refused: Login) -> Login | None:
        """Another login than the one that the server `refused`, if there is one by now. Raises nothing."""


class KeptLogin:
    """The login in a secret of Secrets Manager, read when it is first needed and whenever a server refuses it.

    The secret is JSON with `password` and perhaps `username`, as RDS and Secrets Manager write it, or the password
    alone; `user` where it names none. `of` is whose it is, for people.
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
            if self._known is None and self._clock() < self._read_at + AGAIN_SECONDS:
                # Whoever waited for one who asked in vain would wait as long again, one after the other.
                raise Unavailable("Secrets Manager")
            return self._known or self._read()

    def renewed(self, refused: Login) -> Login | None:
        # One at a time, and not at once again: all connections are refused together, and may be for good.
        with self._mutex:
            if self._known in (None, refused) and self._clock() >= self._read_at + AGAIN_SECONDS:
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
            raise Unavailable(f"the password of {self._of}, which its secret lacks,")
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
    """A token of IAM in place of a password, signed anew for each connection, here and without asking anybody.

    `url` and `query` are what the token says that is asked of `service`; `setting` is what wants it, for people.
    Raises SettingsError where no region is known.
    """

    def __init__(self, user: str, service: str, url: str, query: dict[str, str], setting: str) -> None:
        self._user = user
        self._service = service
        self._url = f"{url}/?{urlencode(query)}"
        # The process's own, which the queue's client needs too.
        self._session: Any = session()
        self._region = self._session.get_config_variable("region")
        if not self._region:
            raise SettingsError(f"bad settings: {setting} needs AWS_DEFAULT_REGION")
        self._mutex = threading.Lock()

    def login(self) -> Login:
        from botocore.auth import SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        try:
            with self._mutex:  # the session is for one thread
                credentials = self._session.get_credentials()
            if credentials is None:
                raise Unavailable("AWS credentials to sign a token with")
            request = AWSRequest("GET", self._url)
            SigV4QueryAuth(credentials.get_frozen_credentials(), self._service, self._region, TOKEN_SECONDS).add_auth(
                request
            )
        except BotoCoreError:  # whoever hands the credentials out did not answer
            raise Unavailable("AWS credentials to sign a token with") from None
        return Login(self._user, str(request.url).partition("://")[2])

    def renewed(self, refused: Login) -> Login | None:
        return None


def rds_login(user: str, host: str, port: int) -> IamLogin:
    """For RDS and its proxy: what `generate_db_auth_token` makes, without loading the description of all of RDS.

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
