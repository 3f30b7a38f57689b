"""Pauses between two looks at something that changes, each longer than the last."""

import anyio


class Polls:
    """The pauses of one wait.

    Args:
        first: The first pause in seconds.
        longest: The longest one.
        growth: How much longer each is than the one before.
    """

    def __init__(self, *, first: float = 0.2, longest: float = 1.0, growth: float = 1.3) -> None:
        self._seconds = first
        self._longest = longest
        self._growth = growth

    async def pause(self, *, at_most: float) -> None:
        """Wait until the next look is due, `at_most` so many seconds."""
        await anyio.sleep(max(0.0, min(self._seconds, at_most)))
        self._seconds = min(self._seconds * self._growth, self._longest)
