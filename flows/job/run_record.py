"""The flow run of a job, which the job itself writes: state names, labels, artifacts."""

from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.states import Scheduled

from flows.core import names
from flows.core.configs.clouds import is_local
from flows.core.models import JobHandle
from flows.core.prefect_states import PREFECT_STATE, PrefectState, attempts_over
from flows.core.run_labels import RunLabels
from flows.core.states import JobState, ProcessHolder
from flows.job.outcome import Outcome
from flows.job.prefect_calls import create_artifact, patiently


class RunRecord:
    """The flow run of one job, as the job itself writes to it. Few calls: each costs the server."""

    def __init__(self, run: FlowRun, client: PrefectClient) -> None:
        self._client = client
        self._noted = RunLabels()
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
    def labels(self) -> RunLabels:
        """The run's labels as last read or written, with those noted for the next write."""
        return RunLabels.read(self.run.labels).with_changes(self._noted)

    @property
    def is_cancelling(self) -> bool:
        """Whether the run was last read in the state Cancelling."""
        return self.run.state is not None and self.run.state.is_cancelling()

    @property
    def is_concluded(self) -> bool:
        """Whether the run was last read in a terminal state."""
        return self.run.state is not None and self.run.state.is_final()

    @property
    def is_paused(self) -> bool:
        """Whether the run was last read paused."""
        return self.run.state is not None and self.run.state.is_paused()

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

    async def end_pause(self, state_id: UUID, state: JobState, message: str = "") -> None:
        """Put a run that is paused, or was scheduled again after a pause, back in RUNNING.

        A cancel that comes between counts: unless Prefect's own limit of the pause is over, it
        accepts this only from a run that is not being cancelled (prefect 3.9).

        Args:
            state_id: The state that this replaces; a run that has another by now is left alone.
            state: Its job's.
            message: What to say.
        """
        await self.reload()
        now = self.run.state
        if now is None or now.id != state_id:
            return
        limit = now.state_details.pause_timeout
        wanted = PREFECT_STATE[state]
        result = await self._client.set_flow_run_state(
            self.run.id,
            State(type=StateType(wanted.type), name=wanted.name, message=message or None),
            force=limit is not None and limit <= datetime.now(UTC),
        )
        self.run.state = result.state or now

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
        return over + 1 - self.labels.attempts_taken_back

    async def take_back_attempts(self, count: int) -> None:
        """Do not count the last attempts: the job of the first of them is still alive."""
        before = self.labels.attempts_taken_back
        await self.label(RunLabels(attempts_taken_back=before + count))

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
        labels = self.labels
        if labels.launched_attempt != attempt:
            return None
        return JobHandle(
            cloud=cloud,
            cluster_name=labels.cluster_name or "",
            launcher_job_id=labels.launcher_job_id or "",
        )

    def note(self, changes: RunLabels) -> None:
        """Add changes of the labels to the next write, at no cost of their own."""
        self._noted = self._noted.with_changes(changes)

    async def label(self, changes: RunLabels) -> None:
        """Change the run's labels."""
        # Changes noted during this write belong to the next one.
        noted, self._noted = self._noted, RunLabels()
        wanted = noted.with_changes(changes).as_labels()
        new = {key: value for key, value in wanted.items() if self.run.labels.get(key) != value}
        if not new:
            return
        try:
            await self._client.update_flow_run_labels(self.run.id, new)
        except BaseException:
            self._noted = noted.with_changes(self._noted)
            raise
        self.run.labels = {**self.run.labels, **new}

    async def label_handle(
        self,
        handle: JobHandle,
        *,
        attempt: int,
        log_path: str | None,
        held_by: ProcessHolder | None = None,
        is_last: bool = False,
    ) -> None:
        """Record the job's cluster and id as soon as they are known.

        Args:
            handle: The job.
            attempt: Its attempt.
            log_path: Its log on this machine.
            held_by: What tracks its processes.
            is_last: Whether another write follows at once, with which a local job's can wait.
        """
        labels = RunLabels(
            attempt=attempt,
            launched_attempt=attempt,
            cluster_name=handle.cluster_name,
            launcher_job_id=handle.launcher_job_id,
            log_path=log_path or None,
            processes_held_by=held_by,
        )
        if not is_local(handle.cloud):
            await self.label(labels)
            await self._tag_handle(handle)
        elif is_last:
            self.note(labels)
        else:
            await self.label(labels)

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

    async def keep_artifact(self, artifact: ArtifactCreate) -> None:
        """Keep an artifact of this run."""
        mine = artifact.model_copy(update={"flow_run_id": self.run.id})
        await create_artifact(self._client, mine)
