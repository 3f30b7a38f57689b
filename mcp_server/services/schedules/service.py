"""The use cases of schedules; the tools and the terminal both call this."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import anyio
import anyio.to_thread

from flows.core import names
from flows.core.errors import Conflict, InvalidArgument
from flows.core.prefect_states import PREFECT_STATE, state_message
from flows.core.run_labels import RunLabels
from flows.core.settings import Settings
from flows.core.states import JobState, TerminationReason
from mcp_server.autostart import starts_by_itself
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import Deployment
from mcp_server.prefect_api.schedules import NOT_STARTED, STARTED, ScheduleGateway
from mcp_server.services import cursors
from mcp_server.services.families.pipelines import tags_of_parts
from mcp_server.services.idempotency import refuse_another_request
from mcp_server.services.jobs.notifications import Notifications, notify_tags
from mcp_server.services.jobs.output_folders import OUTPUT_CODES, OutputFolders
from mcp_server.services.jobs.reruns import Reruns
from mcp_server.services.schedules.preview import next_times
from mcp_server.services.schedules.reading import NEXT_RUNS, ScheduleReader, schedule_name
from mcp_server.services.schedules.subjects import Subject, check_subject
from mcp_server.services.schedules.values import (
    NewSchedule,
    Schedule,
    ScheduleChange,
    ScheduledJob,
    ScheduleList,
    ScheduleState,
    When,
)

_SHORT_ID: Final = 8
_STAYS_DOWN: Final = (
    " The engine is not set to start by itself after a reboot, and nothing fires while it is down: "
    "`oumi-flows service install` sets it."
)

Preview = Callable[[Mapping[str, Any]], Awaitable[list[datetime]]]


class _Checked(NamedTuple):
    """A schedule that passed the checks."""

    new: NewSchedule
    subject: Subject
    when: When
    schedule: dict[str, Any] | None
    next_runs: list[datetime]
    warnings: list[str]

    @property
    def name(self) -> str:
        """Its name for people."""
        return self.new.schedule_name or self.subject.words


class ScheduleService:
    """Makes, lists, pauses, resumes and deletes schedules of jobs.

    Args:
        gateway: Prefect's API, for schedules.
        runs: Prefect's API, for their runs.
        snapshots_dir: Where configs are kept as scheduled.
        preview: The next times of a schedule that Prefect would take.
        starts_by_itself: Whether the engine starts with this machine.
        now: The clock.
    """

    def __init__(
        self,
        gateway: ScheduleGateway,
        runs: PrefectGateway,
        *,
        snapshots_dir: Path,
        preview: Preview,
        starts_by_itself: Callable[[], bool],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._gateway = gateway
        self._runs = runs
        self._notifications = Notifications(runs)
        self._outputs = OutputFolders(runs, snapshots_dir=snapshots_dir)
        self._reruns = Reruns(runs, snapshots_dir=snapshots_dir)
        self._reader = ScheduleReader(gateway, now)
        self._snapshots_dir = snapshots_dir
        self._preview = preview
        self._starts_by_itself = starts_by_itself
        self._now = now

    async def plan(self, new: NewSchedule) -> ScheduledJob:
        """Return what `schedule` would make; make nothing.

        Raises:
            InvalidArgument: The times cannot be used.
            PreflightBlocked: The job's files show that it would fail.
        """
        checked = await self._check(new)
        subject = checked.subject
        warnings = [*checked.warnings, *subject.warnings]
        return self._answer(checked).model_copy(
            update={"job_config": subject.job_config, "warnings": warnings}
        )

    async def schedule(
        self, new: NewSchedule, *, idempotency_key: str | None = None
    ) -> ScheduledJob:
        """Make a schedule; it is durable when this returns.

        Args:
            new: The schedule.
            idempotency_key: The same key always returns the same schedule.

        Raises:
            InvalidArgument: The times cannot be used.
            Conflict: Another schedule has the name, or the key and other arguments.
        """
        checked = await self._check(new)
        subject = checked.subject
        part_tags = (
            await tags_of_parts(subject.pipeline, self._notifications) if subject.pipeline else {}
        )
        parameters = await anyio.to_thread.run_sync(subject.keep, self._snapshots_dir, part_tags)
        labels = _labels(checked)
        own_name = _deployment_name(checked.name, idempotency_key)
        receivers = await self._notifications.tags(new.job.notify, new.job.notify_on)
        deployment = await self._made_before(
            checked, own_name, parameters, receivers, key=idempotency_key
        )
        if deployment is None:
            await self._refuse_taken(new.schedule_name)
            deployment = await self._gateway.create(
                name=own_name,
                description=f"{subject.answer['config_path']}, {checked.when.words}; "
                f"overlap: {new.overlap}",
                flow=subject.flow,
                work_queue=subject.work_queue,
                schedule=checked.schedule,
                parameters=parameters,
                tags=[*subject.tags, names.SCHEDULE_TAG, *receivers],
                labels=labels,
            )
        answer = self._answer(checked)
        if checked.when.at is not None:
            job_id = await self._create_the_run(deployment, checked.when.at, labels)
            next_runs = answer.next_runs
        else:
            job_id = None
            next_runs = await self._reader.next_runs(deployment)
        return answer.model_copy(
            update={
                "summary": f"{answer.name} runs {answer.when}, "
                f"{checked.when.next_words(next_runs)}; schedule_id {deployment.id}."
                + ("" if answer.starts_by_itself else _STAYS_DOWN),
                "schedule_id": deployment.id,
                "state": ScheduleState.ACTIVE,
                "dry_run": False,
                "next_runs": next_runs,
                "job_id": job_id,
                "url": _url(await self._gateway.ui_url(), deployment.id),
            }
        )

    async def list(self, *, limit: int = 10, cursor: str | None = None) -> ScheduleList:
        """List schedules by name, with the next times and the last run of each.

        Args:
            limit: Schedules to return at most.
            cursor: Where an earlier call ended.
        """
        offset = cursors.decode_offset(cursor)
        found = await self._gateway.schedules(limit=limit + 1, offset=offset)
        page = found[:limit]
        rows: dict[str, Schedule] = {}

        async def look(deployment: Deployment) -> None:
            rows[deployment.id] = await self._reader.row(deployment)

        async with anyio.create_task_group() as group:
            for deployment in page:
                group.start_soon(look, deployment)
        more = len(found) > limit
        return ScheduleList(
            summary=f"{len(page)} schedule{'s' * (len(page) != 1)}"
            + (", and there are more." if more else "."),
            schedules=[rows[deployment.id] for deployment in page],
            next_cursor=cursors.encode_offset(offset + limit) if more else None,
        )

    async def pause(self, reference: str) -> ScheduleChange:
        """Pause a schedule. Jobs it already started keep running."""
        deployment = await self._reader.find(reference)
        await self._end_waiting(deployment, "Its schedule was paused before it started.")
        await self._gateway.pause(deployment)
        return await self._change(deployment, ScheduleState.PAUSED, "is paused")

    async def resume(self, reference: str) -> ScheduleChange:
        """Resume a paused schedule.

        Raises:
            Conflict: Its one time has passed.
        """
        deployment = await self._reader.find(reference)
        at = When.of_deployment(deployment).at
        if at is not None:
            await self._put_back(deployment, at)
        await self._gateway.resume(deployment)
        active = [one.model_copy(update={"active": True}) for one in deployment.schedules]
        deployment = deployment.model_copy(update={"paused": False, "schedules": active})
        return await self._change(deployment, ScheduleState.ACTIVE, "fires again")

    async def delete(self, reference: str) -> ScheduleChange:
        """Delete a schedule. Jobs it already started keep running and stay listed."""
        deployment = await self._reader.find(reference)
        await self._end_waiting(deployment, "Its schedule was deleted before it started.")
        await self._gateway.pause(deployment)
        change = await self._change(deployment, ScheduleState.DELETED, "is deleted")
        await self._gateway.delete(deployment)
        return change

    async def _check(self, new: NewSchedule) -> _Checked:
        if not (new.schedule_name or "").isprintable():
            raise InvalidArgument(
                "schedule_name contains a line break or another character that cannot be printed",
                "Use a name of one printable line",
            )
        now = self._now()
        when = When.of(new.times, now=now)
        asked = await self._reruns.fill_in(new.job)
        check = partial(check_subject, asked, repeats=when.at is None)
        subject = await anyio.to_thread.run_sync(check)
        schedule = when.prefect_schedule(anchor=now)
        next_runs = await self._preview(schedule) if schedule else [when.at or now]
        warnings: list[str] = []
        if subject.job is not None:
            looked = await self._outputs.look_at(subject.job, later=True)
            warnings = [one.text for one in looked.findings if one.code in OUTPUT_CODES]
        return _Checked(new, subject, when, schedule, next_runs, warnings)

    def _answer(self, checked: _Checked) -> ScheduledJob:
        """Describe a schedule that was only planned."""
        when = checked.when.words
        return ScheduledJob(
            summary=f"Dry run, no schedule was made: {checked.name} would run {when}, "
            f"{checked.when.next_words(checked.next_runs)}.",
            name=checked.name,
            dry_run=True,
            when=when,
            overlap=checked.new.overlap,
            next_runs=checked.next_runs,
            starts_by_itself=self._starts_by_itself(),
            warnings=checked.warnings,
            **checked.subject.answer,
        )

    async def _made_before(
        self,
        checked: _Checked,
        own_name: str,
        parameters: Mapping[str, Any],
        receivers: Sequence[str],
        *,
        key: str | None,
    ) -> Deployment | None:
        """Find the schedule made with the same key; None if there is none."""
        flow = checked.subject.flow
        made = await self._gateway.by_name(f"{flow}/{own_name}") if key else None
        if made is None or names.SCHEDULE_TAG not in made.tags:
            return None
        refuse_another_request(
            key,
            made,
            kind="schedule",
            made_from=(
                made.parameters,
                notify_tags(made.tags),
                When.of_deployment(made).words,
                made.labels.overlap,
            ),
            asked_for=(
                parameters,
                list(receivers),
                checked.when.words,
                checked.new.overlap,
            ),
        )
        return made

    async def _refuse_taken(self, name: str | None) -> None:
        """Refuse a name that another schedule has; generated names may repeat."""
        for other in await self._gateway.schedules() if name else []:
            if schedule_name(other) == name:
                raise Conflict(
                    f"A schedule named {name!r} exists already, it is {other.id}",
                    "Use another schedule_name, or delete that one with update_schedule",
                )

    async def _create_the_run(
        self, deployment: Deployment, at: datetime, labels: RunLabels
    ) -> str | None:
        """Create the run of a single time; a repeated call returns the same run."""
        words = labels.run_name or ""
        run = await self._gateway.create_run_at(deployment.id, at, name=words, labels=labels)
        if run is None:
            return None
        if run.name == words:
            await self._runs.rename_run(run.id, f"{words}-{run.id[:_SHORT_ID]}")
        return run.id

    async def _end_waiting(self, deployment: Deployment, why: str) -> None:
        """Cancel runs that wait to start; Prefect would delete them without a trace."""
        wanted: dict[str, Any] = {**NOT_STARTED}
        if deployment.schedules:
            # Planned runs are no jobs yet, and Prefect removes them.
            wanted["expected_start_time"] = {"before_": self._now().isoformat()}
        state = PREFECT_STATE[JobState.CANCELLED]
        message = state_message(TerminationReason.SKIPPED, why)
        for run in await self._gateway.runs(deployment, wanted, newest_first=False, limit=MAX_PAGE):
            if run.run_count == 0:
                await self._runs.set_state(run.id, state, message=message, repeatable=True)

    async def _put_back(self, deployment: Deployment, at: datetime) -> None:
        if at <= self._now():
            raise Conflict(
                f"The one time of {schedule_name(deployment)}, {at.isoformat()}, has passed",
                "Make a new schedule, or start the job now with run_oumi_job",
            )
        for run in await self._gateway.runs(deployment, {}, newest_first=True, limit=1):
            if run.state.job_state is JobState.CANCELLED:
                await self._gateway.put_back(run.id, at)

    async def _change(
        self, deployment: Deployment, state: ScheduleState, what: str
    ) -> ScheduleChange:
        live = await self._gateway.runs(deployment, STARTED, newest_first=True, limit=10)
        fires = state is ScheduleState.ACTIVE
        when = When.of_deployment(deployment)
        next_runs = await self._reader.next_runs(deployment) if fires else []
        goes_on = f"; {len(live)} of its jobs keep running" if live and not fires else ""
        return ScheduleChange(
            summary=f"{schedule_name(deployment)} {what}"
            + (f", {when.next_words(next_runs)}." if fires else f"{goes_on}."),
            schedule_id=deployment.id,
            name=schedule_name(deployment),
            state=state,
            next_runs=next_runs,
            live_jobs=[run.id for run in live],
        )


def make_schedules(settings: Settings, gateway: PrefectGateway) -> ScheduleService:
    """Make the use cases of schedules with this machine's Prefect and clock."""
    preview = partial(next_times, count=NEXT_RUNS, timeout_seconds=settings.api_timeout_seconds)
    return ScheduleService(
        ScheduleGateway(gateway, work_pool=settings.work_pool),
        gateway,
        snapshots_dir=settings.snapshots_dir,
        preview=preview,
        starts_by_itself=starts_by_itself,
    )


def _labels(checked: _Checked) -> RunLabels:
    """Make the labels of the schedule and of each of its runs."""
    return checked.subject.labels.with_changes(
        RunLabels(
            schedule=checked.name,
            run_name=checked.name,
            overlap=checked.new.overlap,
            fires_at=checked.when.at,
            attempt=1,
        )
    )


def _deployment_name(words: str, key: str | None) -> str:
    """Make a name of the schedule's own, so that no other can replace it."""
    mark = hashlib.sha256((key or uuid4().hex).encode()).hexdigest()[:_SHORT_ID]
    # Prefect refuses slashes and a few more in names.
    return f"{names.slug(words)}-{mark}"


def _url(ui_url: str | None, deployment_id: str) -> str | None:
    return f"{ui_url.rstrip('/')}/deployments/deployment/{deployment_id}" if ui_url else None
