"""Which attempts of a job may have reached its cluster; the run remembers it over restarts."""

from contextlib import suppress
from typing import Final

import httpx
from prefect.exceptions import ObjectNotFound

from flows.core.configs.clouds import is_local
from flows.core.models import JobRequest
from flows.core.run_labels import RunLabels
from flows.job.run_record import RunRecord

_NONE: Final = 0


class Submissions:
    """What may be on the cluster of a run. It is written on the run before a launch submits.

    Args:
        record: The flow run.
        request: Its job. A local launch is never in doubt, so nothing is written for one.
        is_new: Whether this is the first execution of the run, so that no job of it can exist.
    """

    def __init__(self, record: RunRecord, request: JobRequest, *, is_new: bool) -> None:
        self._record = record
        self._is_local = is_local(request.cloud)
        self._is_adopted = request.launcher_job_id is not None
        self._is_new = is_new
        self._taken_back: int | None = None

    def may_have(self, attempt: int) -> bool:
        """Whether something of an attempt may have reached the cluster."""
        if self._is_adopted:
            return True
        if self._is_new:
            return False
        if self._is_local:
            return True
        if self._record.labels.cluster_name is None:
            return False  # it is written before the first launch
        last = self._last
        return True if last is None else attempt <= last

    def may_live(self, attempt: int) -> bool:
        """Whether a job of an attempt or of the last one may be on the cluster."""
        return self.may_have(attempt) or self.last_before(attempt) != _NONE

    def last_before(self, attempt: int) -> int:
        """The last attempt before this one whose job may live; 0: there is none."""
        last = self._last
        last = attempt - 1 if last is None else min(last, attempt - 1)
        has_ended = self._record.labels.ended_attempt == last
        return _NONE if has_ended or not self.may_have(last) else last

    def begin(self, attempt: int) -> RunLabels:
        """The labels to write before an attempt is launched."""
        self._taken_back = None if self.may_have(attempt) else self._last or _NONE
        self._is_new = False
        return RunLabels() if self._is_local else RunLabels(submitted_attempt=attempt)

    async def take_back(self) -> None:
        """Note that the last launch submitted nothing."""
        before, self._taken_back = self._taken_back, None
        if before is None or self._is_local:
            return  # an earlier launch of the attempt may have submitted a job
        # If the write fails, the cluster is asked before the next launch.
        with suppress(httpx.HTTPError, ObjectNotFound):
            await self._record.label(RunLabels(submitted_attempt=before))

    def end(self, attempt: int) -> None:
        """Note that the end of the job of an attempt was observed."""
        if not self._is_local:
            self._record.note(RunLabels(ended_attempt=attempt))

    @property
    def _last(self) -> int | None:
        """The last attempt that may be submitted; None: an earlier version did not write it."""
        return self._record.labels.submitted_attempt
