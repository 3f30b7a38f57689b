"""Resumes the pipeline or sweep of a job that was retried."""

from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from flows.core.prefect_states import PREFECT_STATE
from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from flows.job.prefect_calls import patiently, retried_at
from flows.job.run_record import RunRecord


async def rejoin(record: RunRecord) -> None:
    """Resume the pipeline or sweep of a job, if the job was retried after it had ended.

    Args:
        record: The job, at the beginning of an attempt after its first.
    """
    parent_id = record.labels.part_of
    if parent_id is None:
        return
    if record.labels.stopped_early:
        # A retry of a trial that the sweep had stopped must run to its end.
        await patiently(lambda: record.label(RunLabels(stopped_early="")))
    try:
        parent = await patiently(lambda: record.client.read_flow_run(UUID(parent_id)))
    except ObjectNotFound:
        return
    if await was_retried(record.run.id, parent, record.client):
        await go_on(record.run, parent.id, record.client)


async def was_retried(child_id: UUID, parent: FlowRun, client: PrefectClient) -> bool:
    """Whether a job was retried after its pipeline or sweep had ended."""
    if parent.state is None or not parent.state.is_final():
        return False
    asked_at = retried_at(await patiently(lambda: client.read_flow_run_states(child_id)))
    if asked_at is None:
        return False
    # A parent that ended by itself may have missed a retry that came a moment before.
    return _is_ours(parent.state) or asked_at > parent.state.timestamp


async def go_on(child: FlowRun, parent_id: UUID, client: PrefectClient) -> None:
    """Resume an ended pipeline or sweep with its job `child`, which was retried."""
    record = RunRecord(await patiently(lambda: client.read_flow_run(parent_id)), client)
    if not record.is_concluded:
        return
    attempt = await patiently(record.next_attempt)
    await patiently(
        lambda: record.label(
            RunLabels(one_part_attempt=attempt, attempt=attempt, force_cancel=False)
        )
    )
    state = Scheduled(
        name=PREFECT_STATE[JobState.RETRYING].name,
        message=f"{RunLabels.read(child.labels).part} was retried.",
    )
    await patiently(lambda: client.set_flow_run_state(parent_id, state))


def _is_ours(state: "State[object]") -> bool:
    """Whether oumi-flows set a terminal state, not a person."""
    return (state.message or "").partition(": ")[0] in TerminationReason.__members__.values()
