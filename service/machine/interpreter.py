"""How long a thread keeps Python's global lock while another waits for it.

The device thread computes without the lock and takes it back many times a second. Python lets the thread that has it go
on for 5 ms, which is longer than a decode step of a small model. 0.5 ms bounds that. It matters where the event loop is
busy as a step begins or ends: delivering to 16 streams at that moment made the 99th percentile of the time between two
forward passes 8-10 ms, and 4.4 ms with this bound. Since `DeviceThreads.let_begin` delivers later, there is nothing
between the two on an idle machine (1.5 ms at the median, 3 ms at the 99th percentile, 16 streams).
"""

import sys

SWITCH_INTERVAL_S = 0.0005


def switch_sooner() -> None:
    """Have every thread of this process give up the lock sooner to those that wait."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
