"""Shows how the training of a run does: its health, its use of the machine, a page for people."""

import logging
import time
from pathlib import Path
from typing import Final

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from flows.core.models import JobRequest, NotifyOn
from flows.core.names import HEALTH_EVENT, NOTIFY_TAG
from flows.core.redaction import Redactor
from flows.core.states import Health, TerminationReason
from flows.job.insight import Insight, LookRate, draw_page, look_at_training
from flows.job.reading import Reading
from flows.job.run_artifact import RunArtifact
from flows.job.run_event import send_run_event
from flows.job.run_record import RunRecord
from flows.job.runtime import Runtime

_CLOSE_SECONDS: Final = 5.0
_WORSE: Final = frozenset({Health.WARNING, Health.BAD})


def is_awaited(request: JobRequest, record: RunRecord) -> bool:
    """Whether something waits for a change of health: `stop_on`, or a notification."""
    prefix = f"{NOTIFY_TAG}{NotifyOn.BAD}:"
    return bool(request.stop_on) or any(tag.startswith(prefix) for tag in record.run.tags)


class TrainingWatch:
    """Looks at the training of one run, now and then.

    Args:
        record: The run.
        runtime: Shares the time for looks among all runs of this process.
        logger: The run's log.
        is_close: Whether something waits for a change of health, so that looks are more frequent.
    """

    def __init__(
        self,
        record: RunRecord,
        runtime: Runtime,
        logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
        *,
        is_close: bool = False,
    ) -> None:
        self._record = record
        self._runtime = runtime
        self._rate: LookRate = runtime.look_rate
        self._logger = logger
        self._reading = Reading()
        self._page = RunArtifact(record, kind="markdown", prefix="metrics")
        self._seconds = _CLOSE_SECONDS if is_close else self._rate.seconds
        self._due_at = time.monotonic() + self._seconds
        self._drawn_at = float("-inf")
        self._health: Health | None = None

    async def look(self, log_path: Path, *, hide: Redactor) -> Insight | None:
        """Look at a running job; None if no look is due, or it failed."""
        if time.monotonic() < self._due_at or not self._rate.take_turn():
            return None
        self._due_at = time.monotonic() + self._seconds
        began_at = time.monotonic()
        insight = await self._reading.read(
            "the training of a job", look_at_training, log_path, hide=hide
        )
        if insight is not None:
            await self._tell(insight, is_running=True)
            if time.monotonic() - self._drawn_at >= self._rate.seconds:
                self._drawn_at = time.monotonic()
                # Not awaited: it may wait for the charts of other runs, and a cancel must not.
                await self._runtime.do_later(self._draw(log_path, insight, hide=hide))
        self._rate.note_cost(time.monotonic() - began_at)
        return insight

    async def conclude(
        self, log_path: Path, *, hide: Redactor, reason: TerminationReason, output_dir: str
    ) -> Insight | None:
        """Look at a job that has ended; its page is drawn while the run goes on to its end."""
        insight = await self._reading.read(
            "the training of a job",
            look_at_training,
            log_path,
            hide=hide,
            reason=reason,
            output_dir=output_dir,
        )
        if insight is not None:
            await self._tell(insight, is_running=False)
            await self._runtime.do_later(self._draw(log_path, insight, hide=hide))
        return insight

    async def _tell(self, insight: Insight, *, is_running: bool) -> None:
        """Report a change of health, in the run's log and as an event of Prefect."""
        was, now = self._health, insight.diagnosis.health
        if now is was:
            return
        self._health = now
        if now in _WORSE:
            self._logger.warning("Health: %s", insight.diagnosis.summary)
        if was is None and now not in _WORSE:
            return  # a training that does well is no news
        # The end of a job does not wait for the connection that an event needs.
        await self._runtime.do_later(self._send(insight, was, is_running=is_running))

    async def _send(self, insight: Insight, was: Health | None, *, is_running: bool) -> None:
        sending = self._emit(insight, was, is_running=is_running)
        await self._reading.wait_for("an event, to send it", sending)

    async def _emit(self, insight: Insight, was: Health | None, *, is_running: bool) -> None:
        diagnosis = insight.diagnosis
        await send_run_event(
            self._record.run,
            HEALTH_EVENT,
            facts={
                "oumi.health": diagnosis.health.value,
                "oumi.running": "yes" if is_running else "no",
            },
            payload={
                "health": diagnosis.health.value,
                "was": None if was is None else was.value,
                "findings": [finding.kind.value for finding in diagnosis.findings],
                "summary": diagnosis.summary,
            },
        )

    async def _draw(self, log_path: Path, insight: Insight, *, hide: Redactor) -> None:
        async with self._runtime.drawing:
            began_at = time.monotonic()
            page = await self._reading.read(
                "the metrics of a job, to draw them", draw_page, log_path, insight.diagnosis
            )
            self._rate.note_cost(time.monotonic() - began_at)
            if page:
                description = f"Metrics and health: {insight.diagnosis.health}"
                await self._reading.wait_for(
                    "the page of metrics, to keep it", self._keep(hide.data(page), description)
                )

    async def _keep(self, page: str, description: str) -> None:
        # The run's own client may be closed by now.
        async with get_client() as client:
            try:
                await self._page.write(page, description=description, client=client)
            except (httpx.HTTPError, ObjectNotFound) as error:
                self._logger.debug("Metrics not shown: %s", error)
