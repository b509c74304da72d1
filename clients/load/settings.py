"""The settings of a load test, apart from its program: a command line can list them without loading it."""

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from clients.workload.settings import ArrivalSettings, WorkloadSettings

Protocol = Literal["sse", "websocket-json", "websocket-msgpack"]


def _key_from_environment() -> SecretStr | None:
    key = os.environ.get("FASTSWITCH_API_KEY") or os.environ.get("OPENAI_API_KEY")
    return SecretStr(key) if key else None


class LoadSettings(WorkloadSettings):
    """Load an OpenAI-compatible server with conversations and report what their users see."""

    url: str = Field("http://127.0.0.1:8000", description="address of the server; it may end in /v1")
    protocol: Protocol = Field("sse", description="sse: OpenAI's routes, of any server; websocket-*: our chat stream")
    model: str | None = Field(None, description="model to ask for; unset: the first that the server offers")
    api_key: SecretStr | None = Field(
        default_factory=_key_from_environment,
        description="key sent to the server; unset: the environment's FASTSWITCH_API_KEY or OPENAI_API_KEY",
    )
    trace: Path | None = Field(
        None, description="replay this file (ours, ShareGPT's or Mooncake's) instead of a workload from a seed"
    )
    max_concurrency: int | None = Field(
        None, ge=1, description="the most turns in flight; waiting for one to end counts as latency"
    )
    duration: float | None = Field(None, gt=0, description="seconds after which no more turns begin")
    num_warmups: int = Field(0, ge=0, description="number of first conversations to leave out of the report")
    warmup_duration: float = Field(0.0, ge=0, description="seconds at the start whose turns are left out of the report")
    request_timeout: float = Field(600.0, gt=0, description="seconds that a turn may take")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    ignore_eos: bool | None = Field(
        None, description="answers go on to their full length; unset: if the server is known to accept the field"
    )
    extra_body: str | None = Field(None, description="JSON object whose fields override those of each request")
    stop_on_saturation: bool = Field(False, description="stop when the server falls behind for good")
    run_name: str | None = Field(
        None, min_length=1, description="prefix of each request's `user`; unset: random, so that no two runs share KV"
    )
    slo: str | None = Field(None, description="ttft=S,tbt=S: count the turns that keep to these seconds as goodput")
    output: Path | None = Field(None, description="JSON file to write everything to; `load compare` reads it")
    csv: Path | None = Field(None, description="CSV file to write, a line a turn")
    html: Path | None = Field(None, description="page with plots to write")
    transcripts: Path | None = Field(None, description="file to write the conversations to, as JSON lines")

    @model_validator(mode="after")
    def _asks_for_one_workload(self) -> "LoadSettings":
        """Refuse settings of turns and lengths together with a trace, which has its own: they would have no effect."""
        drawn = set(WorkloadSettings.model_fields) - set(ArrivalSettings.model_fields) - {"conversations", "tenant"}
        if self.trace is not None and (unused := sorted(drawn & self.model_fields_set)):
            raise ValueError(f"--{unused[0].replace('_', '-')} has no effect on a --trace")
        return self

    @field_validator("slo")
    @classmethod
    def _is_an_objective(cls, text: str | None) -> str | None:
        from clients.reporting.slo import parse_slo  # noqa: PLC0415 - heavy

        if text is not None:
            parse_slo(text)
        return text

    @field_validator("extra_body")
    @classmethod
    def _is_an_object(cls, text: str | None) -> str | None:
        if text is not None and not isinstance(json.loads(text), dict):
            raise ValueError("not a JSON object")
        return text

    @property
    def extra_fields(self) -> dict[str, Any]:
        """The fields of ``extra_body``."""
        return {} if self.extra_body is None else json.loads(self.extra_body)
