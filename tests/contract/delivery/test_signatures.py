"""Each delivery is signed with a secret that its platform may use."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from message_handler.domain.errors import Unavailable
from message_handler.drivers.secrets import Secrets
from tests.contract.chat import Clock, named
from tests.contract.delivery.office import CLINIC, OTHER_SECRET, SECRET, Office
from tests.contract.receiver import Receiver, Told


class TestSignatures:
    """Verified as receivers do it, with the specification's own package, which compares the time with its own clock."""

    @pytest.fixture(autouse=True)
    def _now(self, clock: Clock) -> None:
        clock.advance(time.time() - clock())

    def verifies(self, secret: str, told: Told) -> bool:
        try:
            Webhook(secret).verify(told.body, told.headers)
        except WebhookVerificationError:
            return False
        return True

    def told(self, office: Office, receiver: Receiver) -> Told:
        talk = office.talk()
        talk.answer(1, named("m0"), reply="Thuốc này uống sau khi ăn.")
        office.works(talk.key)
        return receiver.told[-1]

    def test_a_receiver_can_verify_the_signature(self, office: Office) -> None:
        told = self.told(office, office.platform())
        assert self.verifies(SECRET, told)
        assert not self.verifies(OTHER_SECRET, told)
        assert not self.verifies(SECRET, replace(told, body=told.body.replace(b"sau", b"truoc")))
        assert not self.verifies(SECRET, replace(told, headers=told.headers | {"webhook-id": "msg_other"}))

    def test_while_keys_rotate_each_of_the_two_verifies_the_signature(self, office: Office) -> None:
        told = self.told(office, office.platform(webhook_secrets=[OTHER_SECRET, SECRET]))
        first, _ = told.headers["webhook-signature"].split(" ")
        assert self.verifies(SECRET, told)
        assert self.verifies(OTHER_SECRET, told)
        assert self.verifies(OTHER_SECRET, replace(told, headers=told.headers | {"webhook-signature": first}))

    def test_a_rotated_key_in_secrets_manager_signs_after_five_minutes(self, office: Office, vault: Any) -> None:
        now = [0.0]
        arn = vault.create_secret(Name=f"message-handler/{CLINIC}/webhook", SecretString=SECRET)["ARN"]
        receiver, talk = office.platform(webhook_secrets=[arn]), office.talk()
        office.deliveries = replace(office.deliveries, secrets=Secrets(clock=lambda: now[0]))
        for number, (at, key) in enumerate([(0, SECRET), (299, SECRET), (301, OTHER_SECRET)], start=1):
            now[0] = at
            talk.answer(number, f"m{number}")
            office.works(talk.key)
            assert self.verifies(key, receiver.told[-1])
            vault.put_secret_value(SecretId=arn, SecretString=OTHER_SECRET)
        assert len(receiver.told) == 3


class TestKeys:
    @pytest.mark.parametrize(
        "secrets",
        [
            [],
            None,
            SECRET,
            [None],
            ["***"],
            [SECRET.removeprefix("whsec_")],
            ["whsec_" + "A" * 28],
            ["whsec_" + "A" * 88],
            ["whsec_not base64"],
            ["whsec_ä" + SECRET[7:]],
            [SECRET, "whsec_"],
        ],
    )
    def test_nothing_is_sent_unsigned(self, office: Office, secrets: Any) -> None:
        receiver = office.platform(webhook_secrets=secrets)
        talk = office.talk()
        talk.answer(1, "m0")
        office.works(talk.key)
        assert receiver.told == []
        assert [(tries, error) for _, _, tries, error in office.rows("pending")] == [(1, "webhook_unsigned")]
        office.configure(CLINIC, receiver.url)
        office.passes(600)
        assert len(receiver.told) == 1

    def test_meta_data_that_is_no_object_has_no_secrets(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        office.sql.run("update platforms set meta_data = '[1]' where platform_id = :id", id=CLINIC)
        office.works(talk.key)
        assert office.rows("pending")[0][2:] == (1, "webhook_unsigned")

    @pytest.mark.parametrize("kept_for", [None, "other"], ids=["written out", "of another tenant"])
    def test_a_secret_that_may_not_be_used_signs_nothing(
        self, office: Office, vault: Any, kept_for: str | None
    ) -> None:
        arn = vault.create_secret(Name=f"message-handler/{kept_for}/webhook", SecretString=SECRET)["ARN"]
        receiver = office.platform(webhook_secrets=[arn if kept_for else SECRET])
        talk, able = office.talk(), office.deliveries
        talk.answer(1, "m0")
        office.deliveries = replace(able, secrets=Secrets())
        office.works(talk.key)
        assert [(tries, error) for _, _, tries, error in office.rows("pending")] == [(1, "secret_refused")]
        assert receiver.told == []
        office.deliveries = replace(able, secrets=Secrets())
        mine = vault.create_secret(Name=f"message-handler/{CLINIC}/webhook", SecretString=SECRET)["ARN"]
        office.configure(CLINIC, receiver.url, webhook_secrets=[mine])
        office.passes(600)
        assert len(receiver.told) == 1

    def test_a_secret_that_can_not_be_read_is_read_again_at_the_next_try(self, office: Office) -> None:
        class Away(Secrets):
            def reveal(self, value: str, platform_id: str) -> str:
                raise Unavailable("Secrets Manager")

        receiver = office.platform()
        talk, able = office.talk(), office.deliveries
        talk.answer(1, "m0")
        office.deliveries = replace(able, secrets=Away())
        office.works(talk.key)
        assert office.rows()[0][3] == "secret_unavailable"
        office.deliveries = able
        office.passes(600)
        assert len(receiver.told) == 1
