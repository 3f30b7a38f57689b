"""Reports of a running job: progress on its flow run, throttled lines in the run's log."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
from prefect.exceptions import ObjectNotFound

from flows.core.logs.error_cause import CAUSE_LINES, Cause, find_cause
from flows.core.logs.pages import LogPage, error_tail, read_from, read_tail
from flows.core.models import JobProgress
from flows.core.redaction import own_redactor
from flows.core.states import Health, JobState, TerminationReason
from flows.core.training.recorder import record_folder
from flows.job.insight import Insight
from flows.job.log_recorder import LogRecorder
from flows.job.outcome import Outcome
from flows.job.progress import ProgressReader
from flows.job.progress_artifact import ProgressArtifact
from flows.job.reading import Reading
from flows.job.training_watch import TrainingWatch
from flows.launcher.port import Observation

_LINES_PER_UPDATE = 20
"""Prefect stores about 1,100 log lines a second in SQLite (prefect 3.8): the file has them all."""
_BYTES_PER_UPDATE = 64_000
_TAIL_LINES = 20
_STOPPED: Final = frozenset({TerminationReason.TIMED_OUT, TerminationReason.PREEMPTED})
"""Reasons of a job that was stopped: its last lines do not explain the end."""

_SHOW_SECONDS = 60.0
"""How old `observed_at` of a silent job may get; each update costs the server."""


class Report:
    """Reads a job's log file as it grows, and shows progress and new lines on the run.

    Args:
        artifact: Shows the progress.
        logger: The run's log.
        interval_seconds: Least time between two reads.
        training: Looks at the training; None: nothing does.
    """

    def __init__(
        self,
        artifact: ProgressArtifact,
        logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
        *,
        interval_seconds: float,
        training: TrainingWatch | None = None,
    ) -> None:
        self.redactor = own_redactor()
        """Hides secrets in everything that goes to Prefect."""
        self._artifact = artifact
        self._training = training
        self._insight: Insight | None = None
        self._logger = logger
        self._interval = interval_seconds
        self._reading = Reading()
        self._reader: ProgressReader | None = None
        self._recorder: LogRecorder | None = None
        self._offset = 0
        self._progress = JobProgress()
        self._updated_at = float("-inf")
        self._shown_at = asyncio.get_running_loop().time()
        self._said_unreachable = False

    def say(self, text: str, *args: object) -> None:
        """Write one line to the run's log."""
        self._logger.warning("%s", self.redactor.text(text % args))

    async def update(self, seen: Observation) -> None:
        """Read new lines and progress, at most once per interval."""
        if asyncio.get_running_loop().time() - self._updated_at < self._interval:
            return
        progress = await self._read_new(seen, final=False)
        insight = None
        if seen.log_path and self._training:
            insight = await self._training.look(Path(seen.log_path), hide=self.redactor)
        await self._show_news(seen, progress, insight)

    async def _read_new(self, seen: Observation, *, final: bool) -> JobProgress | None:
        """Read and pass on what is new in the log; return the progress if it changed."""
        self._updated_at = asyncio.get_running_loop().time()
        progress = await self._reading.read("the progress of a job", self._read, seen.log_path)
        if seen.log_path:
            path = Path(seen.log_path)
            await self._reading.read("the metrics of a job", self._record_metrics, path, rest=final)
            await self._forward(path, final=final)
        return progress

    async def _show_news(
        self, seen: Observation, progress: JobProgress | None, insight: Insight | None
    ) -> None:
        """Show what changed; also what did not, if it was shown long ago."""
        self._insight = insight or self._insight
        now = asyncio.get_running_loop().time()
        stale = now - self._shown_at > _SHOW_SECONDS
        if progress is not None or insight is not None or self._said_unreachable or stale:
            self._said_unreachable = False
            self._shown_at = now
            self._progress = progress or self._progress
            await self._show(observed_at=seen.observed_at, unreachable=None)

    async def show_unreachable(self, why: str, *, observed: Observation | None) -> None:
        """Say once that the job cannot be observed, and since when."""
        why = self.redactor.text(why)
        if self._said_unreachable:
            return
        self._said_unreachable = True
        self.say("The job cannot be observed: %s. The worker keeps trying.", why)
        await self._show(
            observed_at=observed.observed_at if observed else datetime.now(UTC), unreachable=why
        )

    async def start_over(self) -> None:
        """Show that the new attempt has reported nothing yet."""
        await self._show(observed_at=datetime.now(UTC), unreachable=None)

    async def finish(
        self, outcome: Outcome, seen: Observation | None, *, output_dir: str = ""
    ) -> Outcome:
        """Show the rest of the log; return the outcome with the cause of a failure.

        Args:
            outcome: How the job ended.
            seen: The last look at it.
            output_dir: Its output folder, to find a full disk that its log does not name.
        """
        if seen is None:
            return outcome
        progress = await self._read_new(seen, final=True)
        insight = None
        if seen.log_path and self._training:
            insight = await self._training.conclude(
                Path(seen.log_path),
                hide=self.redactor,
                reason=outcome.reason,
                output_dir=output_dir,
            )
        await self._show_news(seen, progress, insight)
        if outcome.reason.job_state is not JobState.FAILED or not seen.log_path:
            return outcome
        path = Path(seen.log_path)
        last = await self._reading.read("the end of a log", self._last_words, path, output_dir)
        if last is None:
            return outcome
        tail, cause = last
        self._logger.error("Last lines of %s:\n%s", path, tail)
        if cause is None or outcome.reason in _STOPPED:
            return outcome
        is_exit = outcome.reason is TerminationReason.NONZERO_EXIT
        reason = TerminationReason.OUT_OF_MEMORY if is_exit and cause.is_out_of_memory else None
        return Outcome(reason or outcome.reason, f"{outcome.text} {cause.text}")

    @property
    def health(self) -> Health:
        """How the training did at the last look."""
        return self._insight.diagnosis.health if self._insight else Health.UNKNOWN

    @property
    def what_is_wrong(self) -> str:
        """What was wrong with the training at the last look."""
        return self._insight.diagnosis.summary if self._insight else ""

    @property
    def loss(self) -> float | None:
        """The last loss that its training reported."""
        return self._progress.loss

    def _read(self, log_path: str | None) -> JobProgress | None:
        if log_path is None:
            return None
        if self._reader is None:
            self._reader = ProgressReader(Path(log_path))
        return self._reader.read()

    def _record_metrics(self, path: Path, *, rest: bool) -> None:
        if self._recorder is None:
            self._recorder = LogRecorder(path, record_folder(path))
        self._recorder.read(rest=rest)

    def _last_words(self, path: Path, output_dir: str) -> tuple[str, Cause | None] | None:
        """The last lines of a log, without secrets, and the cause of the failure in them."""
        hide = self.redactor
        tail = error_tail(path, lines=_TAIL_LINES, redactor=hide)
        if not tail:
            return None
        page = read_tail(
            path, lines=CAUSE_LINES, max_bytes=_BYTES_PER_UPDATE, final=True, redactor=hide
        )
        return tail, find_cause(page.lines, output_dir=output_dir)

    async def _forward(self, path: Path, *, final: bool) -> None:
        lines = await self._reading.read("new lines of a log", self._new_lines, path, final=final)
        for line in lines or ():
            self._logger.info("%s", line)

    def _new_lines(self, path: Path, *, final: bool) -> list[str]:
        page = self._page(path, final=final)
        lines = [line for line in page.lines if line.strip()] if page else []
        return lines[-_LINES_PER_UPDATE:]

    def _page(self, path: Path, *, final: bool) -> LogPage | None:
        try:
            behind = path.stat().st_size - self._offset
        except FileNotFoundError:
            return None
        if behind > _BYTES_PER_UPDATE:
            # The file has every line; a person who follows the run wants the newest ones.
            page = read_tail(
                path,
                lines=_LINES_PER_UPDATE,
                max_bytes=_BYTES_PER_UPDATE,
                final=final,
                redactor=self.redactor,
            )
        else:
            page = read_from(
                path,
                self._offset,
                lines=_BYTES_PER_UPDATE,
                max_bytes=_BYTES_PER_UPDATE,
                final=final,
                redactor=self.redactor,
            )
        self._offset = page.next_offset
        return page

    async def _show(self, *, observed_at: datetime, unreachable: str | None) -> None:
        showing = self._write_progress(observed_at=observed_at, unreachable=unreachable)
        await self._reading.wait_for("progress, to show it", showing)

    async def _write_progress(self, *, observed_at: datetime, unreachable: str | None) -> None:
        try:
            await self._artifact.show(
                self._progress,
                observed_at=observed_at,
                unreachable=unreachable,
                insight=self._insight,
            )
        except (httpx.HTTPError, ObjectNotFound) as error:
            self._logger.debug("Progress not shown: %s", error)
