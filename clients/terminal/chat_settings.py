"""The settings of `fastswitch chat`, apart from its program: a command line can list them without loading it."""

import os

from pydantic import BaseModel, ConfigDict, Field, SecretStr


def _key_from_environment() -> SecretStr | None:
    key = os.environ.get("FASTSWITCH_API_KEY")
    return SecretStr(key) if key else None


class ChatSettings(BaseModel):
    """Chat with a FastSwitch server in the terminal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field("http://127.0.0.1:8000", description="address of the server")
    model: str | None = Field(None, description="model to talk to; unset: the first that the server offers")
    system: str | None = Field(None, description="system message that opens the conversation")
    temperature: float = Field(0.2, ge=0, description="0 is greedy; small models wander when it is high")
    max_tokens: int | None = Field(None, ge=1, description="longest answer, in tokens; unset: as long as it fits")
    seed: int | None = Field(None, description="seed of the draws; unset: another one each turn")
    api_key: SecretStr | None = Field(
        default_factory=_key_from_environment,
        description="key sent to the server; unset: the environment's FASTSWITCH_API_KEY",
    )
