"""The trace that all variants of a cell play, and memory for a quarter of its conversations."""

from dataclasses import dataclass
from math import ceil

from allocator import BLOCK_TOKENS
from clients.load.words import Writer
from clients.report import Run
from clients.reporting.measures import measured
from clients.trace import Trace, TraceConversation
from clients.workload.generate import arrange, generate
from clients.workload.settings import ArrivalSettings, WorkloadSettings
from service.execution.kv import KVFormat
from service.execution.models.loading import LoadedModel

QUARTER = 4


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """Bytes of both pools. ``conversations``: how many of the trace's conversations the device's pool holds at once."""

    device_kv: int
    host_kv: int
    conversations: int

    @property
    def flags(self) -> list[str]:
        """Flags of `fastswitch serve`."""
        return ["--device-kv", str(self.device_kv), "--host-kv", str(self.host_kv)]


def draw_trace(seed: int, conversations: int) -> Trace:
    """Return chats of two to four turns that all begin at once."""
    return generate(
        WorkloadSettings(
            seed=seed,
            conversations=conversations,
            turns="uniform:2,4",
            input_len="lognormal:60,0.7,240",
            output_len="lognormal:40,0.6,160",
            think_time="exponential:0.5",
        )
    )


def at_rate(trace: Trace, turns_per_s: float) -> Trace:
    """Return the same conversations, arriving as a Poisson process."""
    return arrange(trace, ArrivalSettings(seed=trace.seed, request_rate=turns_per_s))


def capacity_of(run: Run) -> float:
    """Return turns a second under full load: over the time in which the first half of a run's turns ended.

    In the second half fewer and fewer conversations are left, and smaller batches do less a second.
    """
    ends = sorted(turn.end_s for turn in measured(run))
    half = len(ends) // 2
    return half / (ends[half - 1] - min(turn.scheduled_s for turn in measured(run)))


def memory_for(trace: Trace, model: LoadedModel) -> PoolSizes:
    """Return device memory for a quarter of the conversations at their full length, and host memory for all."""
    writer = Writer(trace)
    blocks = sum(ceil(_tokens(each, writer, model) / BLOCK_TOKENS) for each in trace.conversations)
    block_bytes = served_block_bytes(model)
    return PoolSizes(
        device_kv=blocks // QUARTER * block_bytes,
        host_kv=blocks * block_bytes,
        conversations=len(trace.conversations) // QUARTER,
    )


def served_block_bytes(model: LoadedModel) -> int:
    """Return the bytes of a block of KV as a server on a CPU keeps it by default."""
    return KVFormat.padded(model.config, "bfloat16").block_bytes


def _tokens(conversation: TraceConversation, writer: Writer, model: LoadedModel) -> int:
    """Return a conversation's tokens at its end: those of its messages in the template, and its answers."""
    messages = []
    for index in range(len(conversation.turns)):
        messages.append({"role": "user", "content": writer.message(conversation, index)})
        messages.append({"role": "assistant", "content": ""})
    rendered = model.chat_template.render(messages, add_generation_prompt=False)
    return len(model.tokenizer.encode(rendered)) + sum(turn.max_tokens for turn in conversation.turns)
