"""How long the attempts of a flow run take, kept on the run as labels."""

from collections.abc import Callable
from typing import Final

from flows.core.run_labels import RunLabels
from flows.core.stopwatch import Instant, Stopwatch, start
from flows.job.run_record import RunRecord

_KEEP_SECONDS: Final = 60.0
"""How often the running time of an attempt with a limit is kept; each write costs the server."""


class RunStopwatches:
    """The stopwatch of all attempts of a run, and the one of an attempt with a time limit.

    Args:
        record: The run.
        now: The clocks.
    """

    def __init__(self, record: RunRecord, *, now: Callable[[], Instant] = Instant.now) -> None:
        self._record = record
        self._now = now

    def start(self, attempt: int) -> None:
        """Start the stopwatch of an attempt, unless it runs already. Costs no call of its own."""
        known = self._record.labels.stopwatch
        watch = start(known, attempt=attempt, now=self._now())
        self._record.note(RunLabels(stopwatch=watch))

    def stop(self) -> None:
        """Stop the stopwatch until the next attempt. Costs no call of its own."""
        known = self._record.labels.stopwatch
        if known is not None:
            self._record.note(RunLabels(stopwatch=known.stop(self._now())))

    def pause(self) -> None:
        """Stop both stopwatches while the job is frozen. Costs no call of its own."""
        self.stop()
        known = self._record.labels.limit_stopwatch
        if known is not None:
            self._record.note(RunLabels(limit_stopwatch=known.stop(self._now())))

    async def running_seconds(self, *, attempt: int) -> float:
        """How long an attempt has been running, since the first call for it.

        It is kept on the run once a minute: after a reboot only the time measured before counts, as
        the wall clock may have been set meanwhile.
        """
        now = self._now()
        known = self._record.labels.limit_stopwatch
        if known is None or known.attempt != attempt:
            known = Stopwatch(attempt, 0.0, now)
        elif known.since is None or not known.is_of_boot(now):  # it was paused, or another boot
            known = Stopwatch(attempt, known.before, now)
        elif now.monotonic - known.since.monotonic >= _KEEP_SECONDS:
            known = Stopwatch(attempt, known.seconds(now), now)
        await self._record.label(RunLabels(limit_stopwatch=known))
        return known.seconds(now)

    async def forget_running(self) -> None:
        """Forget how long an attempt has been running: it is pending, maybe again."""
        if self._record.labels.limit_stopwatch is not None:
            await self._record.label(RunLabels(limit_stopwatch=None))
