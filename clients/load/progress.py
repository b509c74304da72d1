"""Shows a run in progress: a live table on a terminal, a line every ten seconds elsewhere."""

import asyncio

from rich.console import Console
from rich.live import Live
from rich.table import Table

from clients.load.driver import Driver

REFRESH_S = 0.5
LINE_EVERY_S = 10.0
LATE_S = 0.1  # a client that sends later than this also measures itself


class Progress:
    """Reads the driver's counts and keeps the last reading, to compute rates."""

    def __init__(self, driver: Driver, console: Console) -> None:
        self._driver = driver
        self._console = console
        self._last = (0.0, 0, 0)  # when, turns done, pieces

    async def show(self) -> None:
        """Show the run until cancelled."""
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(LINE_EVERY_S)
                self._console.print(self._line(), markup=False, soft_wrap=True)
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                await asyncio.sleep(REFRESH_S)
                live.update(self._table(), refresh=True)

    def _facts(self) -> dict[str, str]:
        counts, now = self._driver.counts, self._driver.clock.now()
        before, done, pieces = self._last
        self._last = now, counts.done, counts.pieces
        elapsed = max(now - before, 1e-9)
        ttft = counts.ttft_now_s
        facts = {
            "elapsed": f"{now:.0f} s",
            "turns": f"{counts.done} of {counts.turns_in_trace} done, {counts.in_flight} in flight",
            "waiting": f"{counts.waiting - counts.in_flight} to be sent",
            "rate": f"{(counts.done - done) / elapsed:.1f} turns/s, {(counts.pieces - pieces) / elapsed:.0f} pieces/s",
            "TTFT now": "-" if ttft is None else f"{ttft:.2f} s",
            "errors": ", ".join(f"{count} {kind}" for kind, count in counts.errors.most_common(3)) or "none",
        }
        if warnings := self._warnings():
            facts["warning"] = warnings
        return facts

    def _warnings(self) -> str:
        warnings = []
        if (since := self._driver.saturated_at_s) is not None:
            warnings.append(f"the server has been falling behind since {since:.0f} s")
        if (late := self._driver.counts.lateness_s) > LATE_S:
            warnings.append(f"this client sent a turn {late:.1f} s late")
        return "; ".join(warnings)

    def _line(self) -> str:
        return "  ".join(f"{name}: {value}" for name, value in self._facts().items())

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, value in self._facts().items():
            table.add_row(name, value, style="yellow" if name == "warning" else None)
        return table
