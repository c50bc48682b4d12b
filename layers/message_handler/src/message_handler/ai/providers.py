"""The AI providers: which schemes choose them, what their configuration must hold, and how they are built.

The scheme of an AI core's `api_endpoint` chooses its provider, and is read here alone. To add a provider, write its
file, and describe it in `PROVIDERS`. The description imports the file only when a core is built, so that a start pays
only for the providers that it uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from message_handler.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from message_handler.ai.answering import Ask
    from message_handler.ai.port import AI, Completion
    from message_handler.drivers.egress import Egress
    from message_handler.drivers.secrets import Secrets
    from message_handler.settings import Settings

#: What a model's name looks like.
MODEL = r"^[!-~]{1,512}$"
#: Azure names the model in the address of its deployment, which follows this.
_DEPLOYMENTS = "/deployments/"


@dataclass(frozen=True, slots=True)
class Tools:
    """What providers are built with."""

    settings: Settings
    egress: Egress
    secrets: Secrets


class Provider:
    """What the service knows of a provider before it loads it. `core_ai` is always an AI core's record."""

    #: The schemes that choose it, in small letters. Errors name the first one.
    schemes: tuple[str, ...] = ()
    #: Whether it sends the core's `auth_token`. If so, `url` says to which host.
    takes_token = False
    #: Fields of `meta_data` that only other providers know. A record may not have them, because an operator would rely
    #: on what does not happen.
    unknown_fields: tuple[str, ...] = ()
    #: Whether its replies are made up without a model.
    simulated = False

    def check(self, core_ai: dict[str, Any]) -> None:
        """Check what this provider needs of a new record. Raises InvalidRequest."""

    def url(self, core_ai: dict[str, Any]) -> str | None:
        """The URL of its requests. None: operators choose no URL, because it needs none or knows its own."""
        return None

    def model(self, core_ai: dict[str, Any]) -> str | None:
        """The model that is asked, if it is known."""
        model: str | None = core_ai["meta_data"].get("model")
        return model

    def build(self, core_ai: dict[str, Any], tools: Tools) -> Ask:
        """The function that asks this AI core. Each provider has its own."""
        raise NotImplementedError


class _ChatCompletions(Provider):
    schemes = ("https", "http")  # http works only on this machine: egress refuses it for other hosts
    takes_token = True
    unknown_fields = ("guardrail",)

    def check(self, core_ai: dict[str, Any]) -> None:
        if not self.model(core_ai) and _DEPLOYMENTS not in _after_scheme(core_ai):
            raise InvalidRequest("is missing: this endpoint needs a model's name", field="meta_data.model")

    def url(self, core_ai: dict[str, Any]) -> str:
        return str(core_ai["api_endpoint"])

    def model(self, core_ai: dict[str, Any]) -> str | None:
        _, _, deployment = _after_scheme(core_ai).partition(_DEPLOYMENTS)
        return super().model(core_ai) or re.split("[?/]", deployment)[0] or None

    def build(self, core_ai: dict[str, Any], tools: Tools) -> Ask:
        from message_handler.ai.chat_completions import ChatCompletions

        return ChatCompletions(core_ai, self.url(core_ai), tools.egress, tools.secrets).ask


class _Bedrock(Provider):
    schemes = ("bedrock",)
    unknown_fields = ("omit", "extra_body")

    def check(self, core_ai: dict[str, Any]) -> None:
        """The rules of the Converse API. It would refuse each request that breaks one."""
        model, meta_data = self.model(core_ai), core_ai["meta_data"]
        if not re.fullmatch(MODEL, model):
            advice = "must be bedrock:// and a model's id or an inference profile's ARN"
            raise InvalidRequest(advice, field="api_endpoint")
        region = region_of(model)
        if region and meta_data.get("region", region) != region:
            raise InvalidRequest("must be the region in the model's ARN, or be left out", field="meta_data.region")
        if meta_data.get("temperature", 0) > 1:
            raise InvalidRequest("must be at most 1 for a model of Bedrock", field="meta_data.temperature")
        if not meta_data.get("system_prompt", "text").strip():
            raise InvalidRequest("must not be blank for a model of Bedrock", field="meta_data.system_prompt")
        if meta_data.get("system_role") == "developer":
            raise InvalidRequest("must be system or user for a model of Bedrock", field="meta_data.system_role")

    def model(self, core_ai: dict[str, Any]) -> str:
        return _after_scheme(core_ai)

    def build(self, core_ai: dict[str, Any], tools: Tools) -> Ask:
        from message_handler.ai.bedrock import Bedrock

        model, meta_data = self.model(core_ai), core_ai["meta_data"]
        return Bedrock(model, region_of(model) or meta_data.get("region"), meta_data).ask


class _Simulated(Provider):
    schemes = ("simulated",)
    simulated = True

    def model(self, core_ai: dict[str, Any]) -> None:
        return None

    def build(self, core_ai: dict[str, Any], tools: Tools) -> Ask:
        if not tools.settings.simulated_ai:
            return _failing("ai_not_configured")
        from message_handler.ai.simulated import SimulatedAI

        simulated = SimulatedAI(tools.settings.simulated_ai_delay_ms)
        return lambda prompt, watch, _limits: simulated.complete(prompt, watch)


class _Unsupported(Provider):
    """Stands for the provider of an unknown scheme, which a record can only have from a write past the API."""

    def build(self, core_ai: dict[str, Any], tools: Tools) -> Ask:
        return _failing("ai_unsupported")


def _failing(code: str) -> Ask:
    """Asks nothing, and fails each time."""
    from message_handler.ai.failures import ProviderFailure

    def fail(*_: object) -> Completion:
        raise ProviderFailure(code)

    return fail


PROVIDERS: tuple[Provider, ...] = (_ChatCompletions(), _Bedrock(), _Simulated())
_UNSUPPORTED = _Unsupported()


def provider_of(core_ai: dict[str, Any]) -> Provider:
    """The provider that the scheme of `api_endpoint` chooses."""
    scheme = _scheme(core_ai)
    return next((provider for provider in PROVIDERS if scheme in provider.schemes), _UNSUPPORTED)


def check_core_ai(core_ai: dict[str, Any]) -> None:
    """Check the fields of a new record that depend on its provider. Raises InvalidRequest."""
    provider = provider_of(core_ai)
    if not core_ai["api_endpoint"].startswith(tuple(f"{scheme}://" for scheme in provider.schemes)):
        *others, last = (f"{known.schemes[0]}://" for known in PROVIDERS)
        raise InvalidRequest(f"must start with {', '.join(others)} or {last}", field="api_endpoint")
    if not re.fullmatch(r"[^?#]*(\?api-version=[A-Za-z0-9.-]+)?", _after_scheme(core_ai)):
        advice = "may have no query but api-version, because every operator can read it"
        raise InvalidRequest(advice, field="api_endpoint")
    for name in provider.unknown_fields:
        if name in core_ai["meta_data"]:
            raise InvalidRequest("must be left out: this endpoint does not know it", field=f"meta_data.{name}")
    provider.check(core_ai)
    if core_ai["auth_token"] and not provider.takes_token:
        raise InvalidRequest("must be left out: this endpoint takes no token", field="auth_token")
    if core_ai["auth_required"] and provider.takes_token and not core_ai["auth_token"]:
        raise InvalidRequest("is missing: auth_required is true", field="auth_token")


def ai_of(core_ai: dict[str, Any], tools: Tools) -> AI:
    """The AI of a configuration: its core, and the fallback that answers where the core does not."""
    # Imported here: intake and operators start with the rules alone.
    from message_handler.ai.answering import AICore, Answering

    records = [core_ai, *filter(None, [core_ai.get("fallback")])]
    return Answering(
        [
            AICore(
                record["core_ai_id"],
                float(record["timeout_seconds"] or tools.settings.ai_timeout),
                provider_of(record).build(record, tools),
            )
            for record in records
        ]
    )


def region_of(model: str) -> str | None:
    """The AWS region in a model's ARN, of any partition: arn:aws-eusc:bedrock:eusc-de-east-1:…"""
    parts = model.split(":")
    return parts[3] or None if parts[0] == "arn" and len(parts) > 3 else None


def _scheme(core_ai: dict[str, Any]) -> str:
    return str(core_ai["api_endpoint"].partition("://")[0].lower())


def _after_scheme(core_ai: dict[str, Any]) -> str:
    return str(core_ai["api_endpoint"].partition("://")[2])
