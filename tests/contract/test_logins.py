"""The stores' passwords change while the service runs, or IAM tokens replace them, on real servers."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial, reduce
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import boto3
import botocore.auth
import pytest
import redis
from botocore.credentials import Credentials as Keys
from pg8000.native import Connection
from pydantic import SecretStr

from local.stores import Server
from message_handler.domain.errors import MessageHandlerError, SettingsError, Unavailable
from message_handler.drivers import aws
from message_handler.drivers.credentials import Login, SecretLogin, elasticache_login, rds_login
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.redis import connect
from message_handler.drivers.secrets import SecretsManager
from message_handler.settings import Settings
from message_handler.tiers.redis import RedisTier
from tests.certificates import Certificates
from tests.conftest import started
from tests.contract.chat import Chat, Clock
from tests.contract.conftest import database_of, lenient_breaker
from tests.servers import SecuredRedis, start_redis_with_tls

FIRST, SECOND = "f1rst-pa55w0rd", "s3cond-pa55w0rd"
USER = "handler"
#: The time at which all tokens are signed, and the keys that sign them, both from AWS' documentation.
NOW = datetime(2026, 6, 15, 9, 30, tzinfo=UTC)
KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "s3ss10n-t0k3n" * 20)


@pytest.fixture(autouse=True)
def private(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may log a password or a token."""
    caplog.set_level("DEBUG", "message_handler")
    yield
    logged = " ".join(str(vars(record)) for when in ("setup", "call") for record in caplog.get_records(when))
    for secret in (FIRST, SECOND, "X-Amz-Signature", KEYS.secret_key, str(KEYS.token)):
        assert secret not in logged


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The secrets that were read from Secrets Manager."""
    found: list[str] = []
    read = SecretsManager.read

    def counting(self: SecretsManager, arn: str) -> str:
        found.append(arn)
        return read(self, arn)

    monkeypatch.setattr(SecretsManager, "read", counting)
    # A test rotates the secret twice in a second.
    monkeypatch.setattr("message_handler.drivers.credentials.REREAD_SECONDS", 0.0)
    return found


def keep(vault: Any, password: str, *, bare: bool = False) -> str:
    """Store a secret as RDS and Secrets Manager write it, or the password alone. Returns its ARN."""
    return str(vault.create_secret(Name="stores/login", SecretString=written(password, bare=bare))["ARN"])


def written(password: str, *, bare: bool = False) -> str:
    more = {"engine": "postgres", "host": "db.example", "port": 5432, "dbname": "app"}
    return f"{password}\n" if bare else json.dumps({"username": USER, "password": password} | more)


def assert_silent(error: BaseException) -> None:
    """Assert that the error and its whole chain hold no password."""
    text = "".join(traceback.format_exception(error))
    assert not any(secret in text for secret in (FIRST, SECOND, "X-Amz-Signature"))


# Redis.


@pytest.fixture
def cluster_with_tls(tmp_path: Path, certificates: Certificates) -> Iterator[SecuredRedis]:
    server = started(partial(start_redis_with_tls, certificates=certificates, cluster=True), tmp_path)
    yield server
    server.stop()


@pytest.fixture
def acl(redis_tls_client: redis.Redis) -> Iterator[Callable[[str], None]]:
    """Replaces the user's password. Open connections stay logged in."""

    def has(password: str) -> None:
        redis_tls_client.acl_setuser(
            USER, enabled=True, reset_passwords=True, passwords=[f"+{password}"], keys=["*"], commands=["+@all"]
        )

    yield has
    redis_tls_client.acl_deluser(USER)


def named(url: str, user: str = USER) -> SecretStr:
    return SecretStr(url.replace("//", f"//{user}@"))


def redis_client(url: SecretStr, cluster: bool = False, **settings: Any) -> redis.Redis:
    return connect(Settings(redis_url=url, redis_timeout_ms=10_000, redis_cluster=cluster, **settings))


def user_of(client: redis.Redis) -> Any:
    """The user that the client is logged in as. Raises the login's error."""
    try:
        return client.acl_whoami()
    except redis.RedisError as error:
        return error


def cut(client: redis.Redis) -> None:
    """End the user's connections, as a failover does."""
    client.execute_command("CLIENT", "KILL", "USER", USER)


class TestRedis:
    @pytest.mark.parametrize("bare", [False, True], ids=["json", "bare"])
    def test_a_rotated_password_costs_one_connection_and_no_request(
        self,
        secured_redis: SecuredRedis,
        redis_tls_client: redis.Redis,
        acl: Callable[[str], None],
        vault: Any,
        asked: list[str],
        bare: bool,
    ) -> None:
        acl(FIRST)
        arn = keep(vault, FIRST, bare=bare)
        url = named(secured_redis.url) if bare else SecretStr(secured_redis.url)
        with redis_client(url, redis_secret_arn=arn) as client:
            assert user_of(client) == USER
            acl(SECOND)
            vault.put_secret_value(SecretId=arn, SecretString=written(SECOND, bare=bare))
            assert user_of(client) == USER  # open connections stay logged in
            cut(redis_tls_client)
            assert user_of(client) == USER
            assert len(asked) == 2
            cut(redis_tls_client)
            assert user_of(client) == USER
            assert len(asked) == 2

    def test_the_default_users_password_rotates_too(
        self, secured_redis: SecuredRedis, redis_tls_client: redis.Redis, vault: Any, asked: list[str]
    ) -> None:
        arn = keep(vault, secured_redis.password, bare=True)
        with redis_client(SecretStr(secured_redis.url), redis_secret_arn=arn) as client:
            assert client.ping()
            redis_tls_client.config_set("requirepass", SECOND)
            try:
                vault.put_secret_value(SecretId=arn, SecretString=SECOND)
                client.connection_pool.disconnect()
                assert client.ping()
                assert len(asked) == 2
            finally:
                redis_tls_client.config_set("requirepass", secured_redis.password)

    def test_as_a_cluster_each_node_is_logged_in_at(
        self, cluster_with_tls: SecuredRedis, vault: Any, asked: list[str]
    ) -> None:
        arn = keep(vault, cluster_with_tls.password, bare=True)
        url = SecretStr(cluster_with_tls.url)
        with redis_client(url, cluster=True, redis_secret_arn=arn) as client:
            assert client.get("any key") is None
            with redis_client(url, redis_password=SecretStr(cluster_with_tls.password)) as operator:
                operator.config_set("requirepass", SECOND)
            vault.put_secret_value(SecretId=arn, SecretString=SECOND)
            client.close()
            assert client.get("any key") is None
            assert len(asked) == 2

    def test_a_store_that_refuses_the_login_is_away_and_says_what_to_do(
        self, secured_redis: SecuredRedis, vault: Any, asked: list[str]
    ) -> None:
        settings = Settings(redis_url=SecretStr(secured_redis.url), redis_secret_arn=keep(vault, FIRST, bare=True))
        tier = RedisTier(connect(settings), settings)
        with pytest.raises(Unavailable, match="REDIS_SECRET_ARN") as refused:
            Chat(tier, Clock()).says("a")
        assert_silent(refused.value)
        with pytest.raises(Unavailable):
            Chat(tier, Clock()).says("b")
        assert len(asked) == 2  # the breaker is open, so no further request reads the secret
        tier.close()

    def test_without_its_secret_redis_is_away(self, secured_redis: SecuredRedis, vault: Any) -> None:
        arn = keep(vault, secured_redis.password, bare=True)
        vault.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
        settings = Settings(redis_url=SecretStr(secured_redis.url), redis_secret_arn=arn)
        tier = RedisTier(connect(settings), settings, breaker=lenient_breaker())
        for _ in range(2):
            with pytest.raises(Unavailable):
                Chat(tier, Clock()).says("a")
        tier.close()

    def test_a_token_of_iam_is_a_password_to_it(
        self,
        secured_redis: SecuredRedis,
        redis_tls_client: redis.Redis,
        acl: Callable[[str], None],
        signing: Callable[[int], None],
    ) -> None:
        acl(elasticache_login(USER, "message-handler").login().password)
        with redis_client(named(secured_redis.url), redis_iam_cache="message-handler") as client:
            assert user_of(client) == USER
            # ElastiCache ends the connection after 12 h. A new one has a new token.
            signing(12)
            acl(elasticache_login(USER, "message-handler").login().password)
            cut(redis_tls_client)
            assert user_of(client) == USER


# Postgres.


@pytest.fixture
def role(postgres_15_database: Database) -> Iterator[Callable[[str], None]]:
    """Replaces the role's password. Open connections stay logged in."""

    def run(statement: str) -> None:
        postgres_15_database.run(lambda connection: connection.execute_simple(statement))

    run(f"create role {USER} login")
    yield lambda password: run(f"alter role {USER} password '{password}'")
    postgres_15_database.run(lambda connection: cut_backends(connection))
    run(f"drop role {USER}")


def cut_backends(connection: Connection) -> None:
    """End the role's connections, as a failover does."""
    connection.run("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = :user", user=USER)


def without_login(url: str, user: str = "") -> SecretStr:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return SecretStr(parts._replace(netloc=f"{user}@{host}" if user else host).geturl())


def who(connection: Connection) -> Any:
    return connection.run("select current_user")[0][0]


def role_of(database: Database) -> Any:
    """The user that the client is logged in as. Raises the login's error."""
    try:
        return database.run(who)
    except MessageHandlerError as error:
        return error


class TestPostgres:
    @pytest.mark.parametrize("bare", [False, True], ids=["json", "bare"])
    def test_a_rotated_password_costs_one_connection_and_no_request(
        self,
        postgres_15: Server,
        postgres_15_database: Database,
        role: Callable[[str], None],
        vault: Any,
        asked: list[str],
        bare: bool,
    ) -> None:
        role(FIRST)
        arn = keep(vault, FIRST, bare=bare)
        url = without_login(postgres_15.url, USER if bare else "")
        database = database_of(Settings(database_url=url, database_secret_arn=arn, database_timeout=30))
        assert role_of(database) == USER
        role(SECOND)
        vault.put_secret_value(SecretId=arn, SecretString=written(SECOND, bare=bare))
        assert role_of(database) == USER  # open connections stay logged in
        postgres_15_database.run(cut_backends)
        assert role_of(database) == USER
        assert len(asked) == 2
        database.close()
        assert role_of(database) == USER
        assert len(asked) == 2
        database.close()

    def test_all_connections_that_are_refused_at_once_ask_once(
        self, postgres_15: Server, role: Callable[[str], None], vault: Any, asked: list[str]
    ) -> None:
        role(FIRST)
        arn = keep(vault, FIRST)
        settings = Settings(database_url=without_login(postgres_15.url), database_secret_arn=arn, database_timeout=30)
        database = database_of(settings)
        assert role_of(database) == USER
        database.close()
        role(SECOND)
        vault.put_secret_value(SecretId=arn, SecretString=written(SECOND))
        together, found = threading.Barrier(8), []

        def works() -> None:
            together.wait()
            found.append(role_of(database))

        threads = [threading.Thread(target=works) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (found, len(asked)) == ([USER] * 8, 2)
        database.close()

    def test_a_store_that_refuses_the_login_is_away_and_says_what_to_do(
        self, postgres_15: Server, role: Callable[[str], None], vault: Any, asked: list[str]
    ) -> None:
        role(SECOND)
        settings = Settings(
            database_url=without_login(postgres_15.url), database_secret_arn=keep(vault, FIRST), database_timeout=30
        )
        database = Database(connector(settings))
        refused = role_of(database)
        assert isinstance(refused, Unavailable)
        assert "DATABASE_SECRET_ARN" in str(refused)
        assert_silent(refused)
        with pytest.raises(Unavailable):
            database.run(who)
        assert len(asked) == 2  # the breaker is open, so no further request reads the secret

    @pytest.mark.parametrize("text", ["{}", '{"password": ""}', '{"password": 5}', "  "])
    def test_a_secret_without_a_password_is_said(self, postgres_15: Server, vault: Any, text: str) -> None:
        arn = vault.create_secret(Name="stores/login", SecretString=text)["ARN"]
        database = Database(connector(Settings(database_url=without_login(postgres_15.url), database_secret_arn=arn)))
        with pytest.raises(Unavailable, match="password of Postgres"):
            database.run(who)

    def test_a_token_of_iam_is_a_password_to_it(
        self, postgres_15: Server, role: Callable[[str], None], signing: Callable[[int], None]
    ) -> None:
        address = urlsplit(postgres_15.url)
        login = rds_login(USER, str(address.hostname), int(address.port or 0))
        role(login.login().password)
        url = without_login(postgres_15.url, USER)
        database = database_of(Settings(database_url=url, database_iam=True, database_timeout=30))
        assert role_of(database) == USER
        database.close()
        signing(1)
        with pytest.raises(Unavailable, match="DATABASE_IAM") as refused:
            database.run(who)  # a new connection has a new token
        assert_silent(refused.value)
        role(login.login().password)
        assert role_of(database) == USER
        database.close()

    def test_a_token_never_goes_over_a_line_that_others_can_read(self, signing: Callable[[int], None]) -> None:
        for query in ("", "?sslmode=disable"):
            url = SecretStr(f"postgresql://{USER}@127.0.0.1/app{query}")
            with pytest.raises(SettingsError, match="DATABASE_IAM needs sslmode"):
                connector(Settings(database_url=url, database_iam=True))


# The tokens.


@pytest.fixture
def signing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the time of signatures to NOW, or to some hours later."""

    def hours_later(hours: int) -> None:
        at = NOW.replace(hour=NOW.hour + hours)
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: at.replace(tzinfo=None))

    aws.session.cache_clear()  # the cached session has the keys of other tests
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", str(KEYS.token))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    hours_later(0)
    return hours_later


def is_signed(token: str, service: str) -> bool:
    """Whether AWS would accept the token. The signature is computed as AWS documents it.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    parts = urlsplit(f"//{token}")
    query = dict(parse_qsl(parts.query, strict_parsing=True))
    signature = query.pop("X-Amz-Signature")
    scope = f"20260615/eu-central-1/{service}/aws4_request"
    assert query["X-Amz-Credential"] == f"{KEYS.access_key}/{scope}"
    said = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
    empty = hashlib.sha256(b"").hexdigest()
    canonical = "\n".join(["GET", "/", said, f"host:{parts.netloc}", "", "host", empty])
    to_sign = "\n".join(
        ["AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = reduce(
        lambda key, part: hmac.digest(key, part.encode(), "sha256"), scope.split("/"), f"AWS4{KEYS.secret_key}".encode()
    )
    return hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex(), signature)


@pytest.mark.usefixtures("signing")
class TestTokens:
    def test_for_rds_it_is_what_awss_own_library_makes(self) -> None:
        rds = boto3.Session().client("rds", region_name="eu-central-1")
        host, user = "proxy.example.eu-central-1.rds.amazonaws.com", "app user+1"
        made = rds.generate_db_auth_token(DBHostname=host, Port=5432, DBUsername=user)
        assert rds_login(user, host, 5432).login() == Login(user, made)
        assert is_signed(made, "rds-db")
        rds.close()

    def test_for_elasticache_it_is_what_its_documentation_says(self) -> None:
        """The request without its scheme, https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html."""
        login = elasticache_login(USER, "message-handler").login()
        assert login.user == USER
        assert is_signed(login.password, "elasticache")
        address, _, query = login.password.partition("?")
        assert address == "message-handler/"
        assert {name: value for name, value in parse_qsl(query) if name != "X-Amz-Signature"} == {
            "Action": "connect",
            "User": USER,
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{KEYS.access_key}/20260615/eu-central-1/elasticache/aws4_request",
            "X-Amz-Date": "20260615T093000Z",
            "X-Amz-Expires": "900",
            "X-Amz-SignedHeaders": "host",
            "X-Amz-Security-Token": KEYS.token,
        }

    def test_each_connection_gets_a_new_one(self, signing: Callable[[int], None]) -> None:
        login = elasticache_login(USER, "message-handler")
        first = login.login()
        assert login.login() == first
        signing(1)
        assert login.login() != first
        assert login.renewed(first) is None  # the refused token was a new one, so no other is asked for

    def test_without_a_region_nothing_starts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        with pytest.raises(SettingsError, match="REDIS_IAM_CACHE needs AWS_DEFAULT_REGION"):
            elasticache_login(USER, "message-handler")

    def test_without_keys_the_store_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, "/dev/null")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        settings = Settings(redis_url=SecretStr(f"rediss://{USER}@127.0.0.1:1/0"), redis_iam_cache="message-handler")
        tier = RedisTier(connect(settings), settings)
        with pytest.raises(Unavailable):
            Chat(tier, Clock()).says("a")
        database = Database(connector(Settings(database_url=DATABASE, database_iam=True)))
        with pytest.raises(Unavailable, match="credentials"):
            database.run(who)


DATABASE = SecretStr(f"postgresql://{USER}@db.example/app")


class TestKept:
    """The login as it is read from a secret, without servers."""

    def test_a_login_is_read_when_it_is_needed_and_not_before(self, vault: Any, asked: list[str]) -> None:
        login = SecretLogin(keep(vault, FIRST), "Postgres")
        assert asked == []
        assert [login.login() for _ in range(3)] == [Login(USER, FIRST)] * 3
        assert len(asked) == 1
        assert FIRST not in f"{login!r} {vars(login)} {login.login()!r}"

    def test_a_login_that_is_refused_for_good_is_read_once_a_second_at_most(self, vault: Any) -> None:
        now = [10.0]
        arn = keep(vault, FIRST)
        login = SecretLogin(arn, "Postgres", clock=lambda: now[0])
        known = login.login()
        vault.put_secret_value(SecretId=arn, SecretString=written(SECOND))
        assert login.renewed(known) is None  # the login was read just now
        now[0] += 1
        assert login.renewed(known) == Login(USER, SECOND)
        assert login.renewed(known) == Login(USER, SECOND)  # another connection was refused with the old login too
        assert login.renewed(Login(USER, SECOND)) is None

    def test_a_thread_that_waited_for_a_failed_read_does_not_read_too(self, vault: Any) -> None:
        """Otherwise all connections would wait for Secrets Manager, one after the other."""
        now, asked = [10.0], []

        class Away(SecretsManager):
            def read(self, arn: str) -> str:
                asked.append(arn)
                now[0] += 3  # the timeouts of reading it
                return super().read(arn)

        arn = keep(vault, FIRST)
        vault.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
        login = SecretLogin(arn, "Postgres", manager=Away(), clock=lambda: now[0])
        for _ in range(3):
            with pytest.raises(Unavailable, match="Secrets Manager"):
                login.login()
        assert len(asked) == 1
        now[0] += 1
        with pytest.raises(Unavailable):
            login.login()
        assert len(asked) == 2

    def test_while_secrets_manager_is_away_the_known_login_is_used(self, vault: Any, asked: list[str]) -> None:
        arn = keep(vault, FIRST)
        login = SecretLogin(arn, "Postgres")
        known = login.login()
        vault.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
        assert login.renewed(known) is None
        assert login.login() == known
