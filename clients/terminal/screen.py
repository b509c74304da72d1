"""Shows a chat: answers and tables on standard output, notes and errors on standard error."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.status import Status
from rich.table import Table

from clients.conversation import TurnStats
from clients.protocol import Queued

# An answer may contain control characters, which could move the cursor or write to the clipboard.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class Screen:
    """Writes to standard output and error, without escape codes if there is no terminal, whatever the environment."""

    def __init__(self, *, interactive: bool) -> None:
        colours = None if interactive else False
        self._out = Console(file=sys.stdout, force_terminal=colours, highlight=False)
        self._err = Console(file=sys.stderr, force_terminal=colours, highlight=False, soft_wrap=True)
        self._open_line = False
        self._waiting: Status | None = None

    def piece(self, text: str) -> None:
        """Show a piece of an answer at once, without control characters."""
        text = text.translate(_CONTROLS)
        if text:
            self._stop_waiting()
            sys.stdout.write(text)
            sys.stdout.flush()
            self._open_line = not text.endswith("\n")

    def end_answer(self) -> None:
        """Finish the answer's last line."""
        self._stop_waiting()
        if self._open_line:
            self.piece("\n")

    def queued(self, queued: Queued) -> None:
        """Show where a turn waits, in a line that goes away with the wait. A pipe gets no such line."""
        if not queued.position:
            self._stop_waiting()
        elif self._err.is_terminal:
            if self._waiting is None:
                self._waiting = self._err.status("", spinner="line")
                self._waiting.start()
            self._waiting.update(f"[dim]{queued}[/dim]", spinner_style="dim")

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None

    def note(self, text: str) -> None:
        """Show a message of the program itself."""
        self._err.print(text.translate(_CONTROLS), style="dim", markup=False)

    def error(self, text: str) -> None:
        """Show an error in one line."""
        self._err.print(" ".join(text.split()).translate(_CONTROLS), style="red", markup=False)

    def text(self, text: str) -> None:
        """Show text that the user asked the program for."""
        self._out.print(text, markup=False, soft_wrap=True)

    def stats(self, turns: Sequence[TurnStats]) -> None:
        """Show a table with one line a turn."""
        table = Table("turn", "prompt", "cached", "answer", "TTFT", "tokens/s", "total", "ended by")
        for column in table.columns[:-1]:
            column.justify = "right"
        for number, turn in enumerate(turns, 1):
            table.add_row(str(number), *_cells(turn))
        self._out.print(table)


def _cells(turn: TurnStats) -> list[str]:
    usage, rate = turn.usage, turn.tokens_per_s
    counts = (
        ["-"] * 3 if usage is None else map(str, (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens))
    )
    ttft = "-" if turn.ttft_s is None else f"{turn.ttft_s * 1000:.0f} ms"
    return [*counts, ttft, "-" if rate is None else f"{rate:.1f}", f"{turn.total_s:.2f} s", turn.outcome]
