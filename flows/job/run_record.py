"""The flow run of a job, which the job itself writes: state names, labels, progress artifact."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.states import Scheduled
from pydantic import StrictBool, StrictFloat, StrictInt

from flows.core import names
from flows.core.models import JobHandle, JobProgress
from flows.core.prefect_states import PREFECT_STATE, PrefectState, attempts_over
from flows.core.states import JobState, ProcessHolder
from flows.core.stopwatch import Instant, Stopwatch, start
from flows.job.outcome import Outcome
from flows.job.prefect_calls import patiently

_METADATA_LIMIT = 500
"""Longest artifact metadata value the server keeps (prefect 3.8)."""

_KEEP_SECONDS = 60.0
"""How often the running time of an attempt with a limit is kept; each write costs the server."""

LabelValue = StrictBool | StrictInt | StrictFloat | str


class RunRecord:
    """The flow run of one job, as the job itself writes to it. Few calls: each costs the server."""

    def __init__(
        self, run: FlowRun, client: PrefectClient, *, now: Callable[[], Instant] = Instant.now
    ) -> None:
        self._client = client
        self._now = now
        self._artifact: UUID | None = None
        self._noted: dict[str, LabelValue] = {}
        self.run = run

    @classmethod
    def current(cls) -> "RunRecord":
        """The record of the flow run this code runs in."""
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise RuntimeError("No flow run is active here; call the flow instead of its function.")
        client = context.client
        return cls(context.flow_run, client if isinstance(client, PrefectClient) else get_client())

    @property
    def client(self) -> PrefectClient:
        """The Prefect API's client that the run uses."""
        return self._client

    @property
    def labels(self) -> dict[str, object]:
        """The run's labels as last read or written."""
        return dict(self.run.labels)

    @property
    def is_cancelling(self) -> bool:
        """Whether the run was last read in the state Cancelling."""
        return self.run.state is not None and self.run.state.is_cancelling()

    @property
    def is_concluded(self) -> bool:
        """Whether the run was last read in a terminal state."""
        return self.run.state is not None and self.run.state.is_final()

    @property
    def force_cancel(self) -> bool:
        """Whether a forced cancel was asked for."""
        return bool(self.run.labels.get(names.LABEL_FORCE_CANCEL))

    async def reload(self) -> None:
        """Read the run again."""
        self.run = await self._client.read_flow_run(self.run.id)

    async def conclude(self, outcome: Outcome) -> None:
        """Put the run in the terminal state of `outcome`, from outside its execution."""
        await self._client.set_flow_run_state(self.run.id, outcome.state)

    async def show(self, state: JobState) -> None:
        """Name the run's RUNNING state after the job's state, if the run is still RUNNING.

        Prefect accepts RUNNING over any state, terminal ones included (prefect 3.8), so the run is
        read again just before.
        """
        wanted = PREFECT_STATE[state]
        if self._state == wanted:
            return
        await self.reload()
        if self._state.type != wanted.type or self._state == wanted:
            return
        result = await self._client.set_flow_run_state(
            self.run.id, State(type=StateType(wanted.type), name=wanted.name)
        )
        if result.state is not None:
            self.run.state = result.state

    @property
    def _state(self) -> PrefectState:
        state = self.run.state
        return PrefectState(state.type.value, state.name or "") if state else PrefectState("", "")

    async def attempt(self) -> int:
        """The number of this attempt, counted from 1.

        It comes from the run's own history, so it is right whatever retried the run, and however
        often a worker adopted it.
        """
        return 1 if self.run.run_count <= 1 else await self.next_attempt()

    async def next_attempt(self) -> int:
        """The number of the current attempt or, if the run has ended, of the next one."""
        history = await self._client.read_flow_run_states(self.run.id)
        over = attempts_over(
            PrefectState(state.type.value, state.name or "")
            for state in sorted(history, key=lambda state: state.timestamp)
        )
        return over + 1 - self._taken_back

    async def take_back_attempts(self, count: int) -> None:
        """Do not count the last attempts: the job of the first of them is still alive."""
        await self.label({names.LABEL_ATTEMPTS_TAKEN_BACK: self._taken_back + count})

    @property
    def _taken_back(self) -> int:
        return int(str(self.run.labels.get(names.LABEL_ATTEMPTS_TAKEN_BACK, 0)))

    async def refuse_if_concluded(self) -> None:
        """End this execution if the run is in a terminal state already.

        Prefect accepts a second terminal state over a first one (prefect 3.8); a job's never
        changes.

        Raises:
            Abort: The run is in a terminal state.
        """
        # Repeated until Prefect answers: the outcome of the job must not get lost.
        await patiently(self.reload)
        if self.run.state is not None and self.run.state.is_final():
            raise Abort(f"The run is already {self.run.state.name}.")

    async def await_retry(self, *, seconds: float, message: str) -> None:
        """Schedule the run again after a delay, and end this execution.

        Raises:
            Abort: Always; it ends the execution without a state of its own.
        """
        due = datetime.fromtimestamp(datetime.now(UTC).timestamp() + seconds, UTC)
        state = Scheduled(
            scheduled_time=due, name=PREFECT_STATE[JobState.RETRYING].name, message=message
        )
        await self._client.set_flow_run_state(self.run.id, state)
        raise Abort(message)

    def handle(self, attempt: int, *, cloud: str) -> JobHandle | None:
        """The handle of an attempt, if it was recorded."""
        labels = self.run.labels
        if labels.get(names.LABEL_LAUNCHED_ATTEMPT) != attempt:
            return None
        return JobHandle(
            cloud=cloud,
            cluster_name=str(labels[names.LABEL_CLUSTER]),
            launcher_job_id=str(labels[names.LABEL_LAUNCHER_JOB_ID]),
        )

    def note(self, labels: dict[str, LabelValue]) -> None:
        """Add labels to the next write, at no cost of their own."""
        self._noted |= labels

    async def label(self, labels: dict[str, LabelValue]) -> None:
        """Add labels to the run."""
        # Labels noted during this write belong to the next one.
        noted, self._noted = self._noted, {}
        wanted = {**noted, **labels}
        new = {k: v for k, v in wanted.items() if self.run.labels.get(k) != v}
        if not new:
            return
        try:
            await self._client.update_flow_run_labels(self.run.id, new)
        except BaseException:
            self._noted = {**noted, **self._noted}
            raise
        self.run.labels = {**self.run.labels, **new}

    async def label_handle(
        self,
        handle: JobHandle,
        *,
        attempt: int,
        log_path: str | None,
        held_by: ProcessHolder | None = None,
    ) -> None:
        """Record the job's cluster and id as soon as they are known."""
        labels: dict[str, LabelValue] = {
            names.LABEL_ATTEMPT: attempt,
            names.LABEL_LAUNCHED_ATTEMPT: attempt,
            names.LABEL_CLUSTER: handle.cluster_name,
            names.LABEL_LAUNCHER_JOB_ID: handle.launcher_job_id,
        }
        if log_path:
            labels[names.LABEL_LOG_PATH] = log_path
        if held_by:
            labels[names.LABEL_HELD_BY] = held_by.value
        await self.label(labels)
        if handle.cloud != names.LOCAL_CLOUD:
            await self._tag_handle(handle)

    async def _tag_handle(self, handle: JobHandle) -> None:
        """Tag the run, so that it can be found by its cluster and the launcher's id of its job."""
        # Runs that were started in the Prefect UI also lack the tags of a job.
        wanted = {
            names.TAG,
            names.cloud_tag(handle.cloud),
            names.cluster_tag(handle.cluster_name),
            names.launcher_tag(handle.launcher_job_id),
        }
        if wanted <= set(self.run.tags):
            return
        # A write replaces all tags, and a person may have added one.
        tags = (await self._client.read_flow_run(self.run.id)).tags
        of_handles = (names.CLUSTER_TAG, names.LAUNCHER_TAG)
        kept = [tag for tag in tags if not tag.startswith(of_handles)]
        self.run.tags = [*kept, *sorted(wanted - set(kept))]
        await self._client.update_flow_run(self.run.id, tags=self.run.tags)

    async def running_seconds(self, *, attempt: int) -> float:
        """How long an attempt has been running, since the first call for it.

        It is kept on the run once a minute: after a reboot only the time measured before counts, as
        the wall clock may have been set meanwhile.
        """
        now = self._now()
        known = Stopwatch.parse(self.run.labels.get(names.LABEL_LIMIT_STOPWATCH))
        if known is None or known.attempt != attempt or known.since is None:
            known = Stopwatch(attempt, 0.0, now)
        elif not known.is_of_boot(now):
            known = Stopwatch(attempt, known.before, now)
        elif now.monotonic - known.since.monotonic >= _KEEP_SECONDS:
            known = Stopwatch(attempt, known.seconds(now), now)
        await self.label({names.LABEL_LIMIT_STOPWATCH: str(known)})
        return known.seconds(now)

    async def runs_no_more(self) -> None:
        """Forget how long an attempt has been running: it is pending, maybe again."""
        if self.run.labels.get(names.LABEL_LIMIT_STOPWATCH):
            await self.label({names.LABEL_LIMIT_STOPWATCH: ""})

    async def measure(self) -> None:
        """Start the stopwatch of this attempt of a pipeline or a sweep."""
        self.start_stopwatch(await self.attempt())
        await self.label({})

    def start_stopwatch(self, attempt: int) -> None:
        """Start the stopwatch of an attempt, unless it runs already. Costs no call of its own."""
        watch = start(self._stopwatch, attempt=attempt, now=self._now())
        self.note({names.LABEL_STOPWATCH: str(watch)})

    def stop_stopwatch(self) -> None:
        """Stop the stopwatch until the next attempt. Costs no call of its own."""
        if self._stopwatch is not None:
            self.note({names.LABEL_STOPWATCH: str(self._stopwatch.stop(self._now()))})

    @property
    def _stopwatch(self) -> Stopwatch | None:
        text = self._noted.get(names.LABEL_STOPWATCH) or self.run.labels.get(names.LABEL_STOPWATCH)
        return Stopwatch.parse(text)

    def is_timed_out(self, attempt: int) -> bool:
        """Whether we ended an attempt because it ran too long."""
        return self.run.labels.get(names.LABEL_TIMED_OUT_ATTEMPT) == attempt

    async def label_timed_out(self, attempt: int) -> None:
        """Record that an attempt is ended because it ran too long."""
        await self.label({names.LABEL_TIMED_OUT_ATTEMPT: attempt})

    async def show_progress(
        self, progress: JobProgress, *, observed_at: datetime, unreachable: str | None
    ) -> None:
        """Create or update the run's one progress artifact, which names its attempt."""
        metadata = {
            key: str(value)
            for key, value in progress.model_dump(exclude_none=True).items()
            if key != "percent"
        } | {
            "attempt": str(self.run.labels.get(names.LABEL_ATTEMPT, 1)),
            "observed_at": observed_at.isoformat(),
            "reachable": "false" if unreachable else "true",
        }
        if unreachable:
            metadata["unreachable_reason"] = unreachable[:_METADATA_LIMIT]
        data = progress.percent or 0.0
        description = describe(progress)
        if self._artifact is None:
            self._artifact = await self._find_artifact()
        if self._artifact is None:
            created = await self._client.create_artifact(
                ArtifactCreate(
                    key=f"job-{self.run.id}",
                    type="progress",
                    data=data,
                    description=description,
                    metadata_=metadata,
                    flow_run_id=self.run.id,
                )
            )
            self._artifact = created.id
        else:
            await self._client.update_artifact(
                self._artifact,
                ArtifactUpdate(data=data, description=description, metadata_=metadata),
            )

    async def keep_artifact(self, artifact: ArtifactCreate) -> None:
        """Keep an artifact of this run."""
        await self._client.create_artifact(artifact.model_copy(update={"flow_run_id": self.run.id}))

    async def _find_artifact(self) -> UUID | None:
        if self.run.run_count <= 1:
            return None
        found = await self._client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[self.run.id]),
                type=ArtifactFilterType(any_=["progress"]),
            ),
            limit=1,
        )
        return found[0].id if found else None


def describe(progress: JobProgress) -> str:
    """One line of Markdown: step, loss, time left."""
    parts: list[str] = []
    if progress.step is not None:
        total = f" of {progress.max_steps}" if progress.max_steps else ""
        parts.append(f"step **{progress.step}**{total}")
    if progress.loss is not None:
        parts.append(f"loss **{progress.loss:.4g}**")
    if progress.eta_seconds is not None:
        parts.append(f"about {progress.eta_seconds:.0f} s left")
    return ", ".join(parts) or "no progress reported yet"
