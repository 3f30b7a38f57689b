"""Notices that the wall clock was set back."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

_STEP_SECONDS: Final = 5.0
"""How far the wall clock must go back at once to count as set back."""


class ClockWatch:
    """Compares the wall clock with the monotonic one at each look.

    Args:
        bring_forward: Starts in time what waits; called when the clock was set back.
    """

    def __init__(self, bring_forward: Callable[[], Awaitable[None]]) -> None:
        self._bring_forward = bring_forward
        self._ahead: float | None = None

    async def look(self) -> None:
        """Look once."""
        ahead = time.time() - time.monotonic()
        was, self._ahead = self._ahead, ahead
        # At the start it is unknown whether the clock was set back before.
        if was is None or ahead < was - _STEP_SECONDS:
            await self._bring_forward()
