"""What each room receives of the settings, which alone hold the defaults."""

import time

import structlog

from allocator import BLOCK_TOKENS
from service.api.context import Defaults, Limits, ServedModel
from service.api.openai.schemas import checked_defaults
from service.cli.backend import Backend
from service.config import ServeSettings, is_loopback
from service.core.core import CoreSettings
from service.core.policies import POLICIES, Policy, PolicySettings
from service.core.policies.ranking import Patience
from service.core.switching.mechanisms import PRESETS
from service.errors import ConfigError, InvalidRequestError, ModelLoadError
from service.execution.models.loading import ModelDescription
from service.execution.models.profiles import REPETITION_DETECTION, Profile

log = structlog.get_logger(__name__)


def core_settings(settings: ServeSettings, device_blocks: int, host_blocks: int) -> CoreSettings:
    """Return core's part, for pools of these sizes."""
    return CoreSettings(
        device_blocks=device_blocks,
        host_blocks=host_blocks,
        block_group_size=settings.block_group_size,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_num_queued_reqs=settings.max_num_queued_reqs,
        max_num_queued_tokens=settings.max_num_queued_tokens,
        queue_timeout_s=settings.queue_timeout or None,
        max_idle_sessions=settings.max_sessions,
        session_ttl_s=settings.session_ttl,
        mechanisms=PRESETS[settings.preset],
        patience=Patience(settings.min_quantum, settings.promote_after),
        blocked_timeout_s=settings.blocked_timeout,
        debug_preempt_every=settings.debug_preempt_every,
    )


def policy_settings(settings: ServeSettings) -> PolicySettings:
    """Return what policies are told."""
    return PolicySettings(
        seed=settings.priority_seed,
        update_every=settings.priority_update_every,
        ageing_s=settings.priority_ageing,
        hysteresis=settings.fairness_hysteresis,
    )


def policy(settings: ServeSettings) -> Policy:
    """Return the policy that the settings name."""
    return POLICIES[settings.policy](policy_settings(settings))


def limits(settings: ServeSettings) -> Limits:
    """Return the API's part."""
    return Limits(
        max_body=settings.max_body,
        max_open_requests=settings.max_num_seqs + settings.max_num_queued_reqs,
        write_timeout_s=settings.write_timeout,
        keep_alive_s=settings.keep_alive,
        hang_timeout_s=settings.hang_timeout,
        max_chat_sessions=settings.max_chat_sessions,
        session_ttl_s=settings.session_ttl,
        reconnect_grace_s=settings.reconnect_grace,
        reconnect_buffer=settings.reconnect_buffer,
        ping_s=settings.ping_interval,
        only_local=is_loopback(settings.host) and not settings.has_keys,
        trusted_proxies=settings.trusted_proxies,
        prefix_sharing=settings.sharing,
        allowed_origins=frozenset(settings.allowed_origins),
    )


def served_model(
    settings: ServeSettings,
    model: ModelDescription,
    backend: Backend,
    max_model_len: int,
    defaults: Defaults,
) -> ServedModel:
    """Return the model as clients see it."""
    tokenizer = model.tokenizer
    return ServedModel(
        name=settings.served_model_name or model.name,
        max_model_len=max_model_len,
        capacity_tokens=backend.device_blocks * BLOCK_TOKENS,
        vocab_size=model.config.vocab_size,
        stop_tokens=model.stop_tokens,
        tokenizer=tokenizer,
        chat_template=model.chat_template,
        longest_token_bytes=max(len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)),
        created=int(time.time()),
        device=backend.device,
        block_bytes=backend.block_bytes,
        defaults=defaults,
    )


def max_model_len(settings: ServeSettings, model: ModelDescription) -> int:
    """Return the longest prompt and answer together, in tokens. Raises `ConfigError`."""
    asked = settings.max_model_len or model.max_context
    if asked > model.max_context:
        raise ConfigError(f"--max-model-len {asked}: the model's own limit is {model.max_context} tokens")
    return asked


def defaults(settings: ServeSettings, model: ModelDescription) -> Defaults:
    """Return what requests get that do not say: by the settings, the model's authors, its profile.

    Raises `ModelLoadError`.
    """
    profile = model.profile if settings.generation_config == "auto" else Profile()
    sampling = {**profile.sampling, **_authors_defaults(settings, model)}
    if sampling:
        log.info("sampling_defaults", **sampling)
    detection = {"auto": profile.repetition_detection, "on": REPETITION_DETECTION, "off": None}
    return Defaults(
        sampling=sampling,
        max_tokens=settings.default_max_tokens or profile.default_max_tokens,
        repetition_detection=detection[settings.repetition_detection],
    )


def _authors_defaults(settings: ServeSettings, model: ModelDescription) -> dict[str, float]:
    if settings.generation_config == "vllm":
        return {}
    try:
        return checked_defaults(model.sampling_defaults)
    except InvalidRequestError as error:
        raise ModelLoadError(f"{model.name}: generation_config.json: {error.message}") from None
