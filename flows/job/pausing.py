"""Freezes a local job while its run is paused in Prefect."""

import logging

import httpx
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound

from flows.core.errors import OumiFlowsError
from flows.core.models import JobHandle
from flows.core.prefect_states import PAUSED
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from flows.job.pause_request import Pause, PauseRequest, Wish, in_words
from flows.job.reporting import Report
from flows.job.run_record import RunRecord
from flows.job.run_stopwatches import RunStopwatches
from flows.job.runtime import Runtime
from flows.launcher.port import LauncherState, Observation


class Pausing:
    """Freezes one job while its run is paused.

    Args:
        handle: The job.
        attempt: The number of the attempt it is.
        record: Its flow run.
        runtime: The launcher, and the request of the run.
        report: Writes to the run's log.
    """

    def __init__(
        self,
        handle: JobHandle,
        *,
        attempt: int,
        record: RunRecord,
        runtime: Runtime,
        report: Report,
    ) -> None:
        self._handle = handle
        self._attempt = attempt
        self._record = record
        self._launcher = runtime.launcher
        self._report = report
        self._stopwatches = RunStopwatches(record)
        self._logger = logging.getLogger("prefect.oumi.watch")
        self._request = runtime.pauses.get(record.run.id) or PauseRequest()
        self._followed = self._request.wish
        self._is_frozen: bool | None = None
        self._is_stopped = False

    async def wait_for_change(self) -> None:
        """Wait until Prefect says something else of the pause."""
        await self._request.wait_for_change(self._followed)

    async def follow(self, seen: Observation) -> bool:
        """Freeze the job or let it go on, as Prefect says; return whether it is frozen.

        What fails is tried again at the next call.
        """
        self._followed = self._request.wish
        if self._is_frozen is None:  # later it is known, and observations may be older
            self._is_frozen = seen.is_paused
        try:
            await self._apply(self._followed, seen)
        except OumiFlowsError as error:
            self._logger.warning("Pausing or resuming failed: %s", error.what)
        except (httpx.HTTPError, ObjectNotFound) as error:
            self._logger.debug("Prefect did not answer: %r", error)
        return bool(self._is_frozen)

    async def _apply(self, wish: Wish, seen: Observation) -> None:
        pause = wish.pause
        if pause is not None and not pause.is_over and seen.is_paused is not None:
            return await self._hold(pause, seen)
        if self._is_frozen:
            self._is_frozen = not await self._launcher.set_paused(self._handle, paused=False)
        if self._is_stopped and not self._is_frozen:
            self._is_stopped = False
            self._stopwatches.start(self._attempt)
            self._report.say("It goes on.")
        if wish.state_id is None:
            return None
        message = ""
        if pause is not None and seen.is_paused is None:
            message = "An earlier version launched this job, so it cannot be paused. It goes on."
            self._report.say(message)
        elif pause is not None:
            message = f"Its pause was over at {in_words(pause.until)}: it goes on."
        is_running = seen.state is LauncherState.RUNNING
        state = JobState.RUNNING if is_running else JobState.LAUNCHING
        await self._record.end_pause(wish.state_id, state, message)
        self._request.note(self._record.run.state)
        return None

    async def _hold(self, pause: Pause, seen: Observation) -> None:
        """Freeze the job, and say so on its run."""
        if not self._is_frozen:
            self._is_frozen = await self._launcher.set_paused(self._handle, paused=True)
        if not self._is_frozen:
            return
        if not self._is_stopped:
            self._is_stopped = True
            self._stopwatches.pause()
        if pause.is_applied:
            return
        await self._record.label(RunLabels())  # the stopwatches
        await self._record.reload()
        if self._record.run.state is None or self._record.run.state.id != pause.state_id:
            self._request.note(self._record.run.state)  # it was resumed or cancelled
            return
        what = "It does not start, and waits for its slot afterwards"
        if seen.state is LauncherState.RUNNING:
            what = "Its processes are frozen, and keep their slot and memory"
        message = f"Paused in Prefect at {in_words(pause.since)}. {what}. {pause.end}"
        self._report.say(message)
        await self._set(pause.apply(PAUSED, message=message))

    async def _set(self, state: "State[None]") -> None:
        # Prefect pauses no run that is paused already, unless it is forced to (prefect 3.9).
        result = await self._record.client.set_flow_run_state(
            self._record.run.id, state, force=True
        )
        self._record.run.state = result.state or self._record.run.state
        self._request.note(self._record.run.state)
