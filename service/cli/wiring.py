"""What the rooms receive of the settings, which alone hold the defaults."""

from service.api.context import Limits
from service.config import ServeSettings, is_loopback
from service.core.core import CoreSettings
from service.core.policies import POLICIES, Policy
from service.core.policies.priority_trace import TraceSettings
from service.core.policies.ranking import Patience
from service.core.switching.mechanisms import PRESETS


def core_settings(settings: ServeSettings, device_blocks: int, host_blocks: int) -> CoreSettings:
    """Return core's part, for pools of these sizes."""
    return CoreSettings(
        device_blocks=device_blocks,
        host_blocks=host_blocks,
        block_group_size=settings.block_group_size,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_queue=settings.max_queue,
        max_idle_sessions=settings.max_sessions,
        session_ttl_s=settings.session_ttl,
        mechanisms=PRESETS[settings.preset],
        patience=Patience(settings.min_quantum, settings.promote_after),
        debug_preempt_every=settings.debug_preempt_every,
    )


def policy(settings: ServeSettings) -> Policy:
    """Return the policy that the settings name."""
    return POLICIES[settings.policy](TraceSettings(settings.priority_seed, settings.priority_update_every))


def limits(settings: ServeSettings) -> Limits:
    """Return the API's part."""
    return Limits(
        max_body=settings.max_body,
        max_open_requests=settings.max_num_seqs + settings.max_queue,
        write_timeout_s=settings.write_timeout,
        keep_alive_s=settings.keep_alive,
        hang_timeout_s=settings.hang_timeout,
        max_chat_sessions=settings.max_chat_sessions,
        session_ttl_s=settings.session_ttl,
        reconnect_grace_s=settings.reconnect_grace,
        reconnect_buffer=settings.reconnect_buffer,
        ping_s=settings.ping_interval,
        only_local=is_loopback(settings.host) and not settings.has_keys,
    )
