"""The labels of a flow run: what oumi-flows keeps on the run of a job."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import (
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
)

from flows.core.budget.account import Account
from flows.core.models import Overlap, Value
from flows.core.states import ProcessHolder
from flows.core.stopwatch import Stopwatch

LabelValue = StrictBool | StrictInt | StrictFloat | str
"""A label as Prefect takes it."""

_PREFIX: Final = "oumi."


def _stopwatch(value: object) -> Stopwatch | None:
    return value if isinstance(value, Stopwatch) else Stopwatch.parse(value)


# Prefect removes no label (prefect 3.8): an empty one is a stopwatch that was cleared.
_Measured = Annotated[
    Stopwatch | None,
    PlainValidator(_stopwatch),
    PlainSerializer(lambda watch: str(watch) if watch else ""),
]
_Account = Annotated[
    Account | None,
    PlainValidator(Account.parse),
    PlainSerializer(lambda account: str(account) if account else ""),
]
_Instant = Annotated[datetime, PlainSerializer(datetime.isoformat)]
_YesOrNo = Annotated[bool, PlainSerializer(lambda value: "yes" if value else "no")]


class RunLabels(Value):
    """The labels of a run, or changes of them.

    Field ``x`` is the label ``oumi.x``. Runs of earlier versions carry these names and values, so
    they never change.

    Attributes:
        attempt: The number of the current attempt, counted from 1; None: no job of ours.
        cluster_name: The cluster of the last launched attempt.
        launcher_job_id: The launcher's id of its job.
        log_path: Its log on the worker's machine.
        processes_held_by: What tracks all processes of a local job.
        force_cancel: Whether a forced cancel was requested.
        launched_attempt: The attempt of the cluster and the launcher job id; `attempt` may be
            ahead.
        work_pool: The work pool of the run: Prefect forgets it when the pool is deleted.
        submitted_attempt: The last attempt that may have reached its cluster; written before the
            launch.
        ended_attempt: The last attempt whose end was observed.
        attempts_taken_back: How many attempts were recorded as ended while their job still ran, and
            then continued.
        fresh_attempt: The attempt that must start from the beginning instead of the last
            checkpoint.
        fresh_since: When it started, in seconds since the epoch: it does not resume from older
            checkpoints.
        provenance: Hash of the last attempt's provenance record, kept under OUMI_FLOWS_HOME.
        stopwatch: How long the run's attempts took, without the time between them.
        limit_stopwatch: How long an attempt with a limit has been running; None: it waits.
        stopped_attempt: The attempt that we ended because of its health.
        stopped_for: What was wrong with its training.
        timed_out_attempt: The attempt that we ended because it exceeded its time limit.
        resumed_from_step: The step of the checkpoint that `resumed_attempt` resumed from.
        schedule: The name of the schedule that made the run.
        fires_at: When a schedule of a single run fires.
        run_name: The start of the name of a schedule's run; Prefect makes up a name until the run
            starts.
        part_of: The run of the pipeline or sweep that the job belongs to.
        part: Which part of it the job is: a pipeline's step or a sweep's trial.
        ordered: Set just before a request to stop or delete a cluster; without it nothing was
            changed.
        unread: Whether a client stopped waiting for the run's answer and the answer is still
            unread.
        metrics: The metrics of a part that succeeded, as JSON; kept because its files may be
            deleted.
        result_marks: The content of the folder of results before the launch: JSON of
            `flows.core.result_marks`.
        stopped_early: Why a sweep cancelled the trial; empty: it was retried afterwards.
        one_part_attempt: The attempt in which a single part is retried; no other part is retried
            or started.
        from_job: The job whose config and arguments this one uses again.
        submission: What its submission answered, as JSON; kept for a task that waits for its end.
        note: What a person noted about the job; empty: nothing any more.
        hourly_price: US dollars an hour of all nodes, when it was submitted; None: unknown.
        account: What the attempts reserved and used.
        over_budget_attempt: The attempt that we ended because it reached its limit.
        over_budget_for: Which limit that was, and the figures.
        launch_log: The worker's file with the log of the last attempt's launch.
        collected_attempt: The last attempt whose results were all collected after its end.
        collected_into: The folder that they were collected into.
        collected_part: Results that were collected alone, and into which folder.
    """

    # A person, or another client of Prefect, may have written a number where a text belongs.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    attempt: int | None = None
    cluster_name: str | None = None
    launcher_job_id: str | None = None
    log_path: str | None = None
    processes_held_by: ProcessHolder | None = None
    model_name: str | None = None
    output_dir: str | None = None
    force_cancel: bool = False
    launched_attempt: int | None = None
    work_pool: str | None = None
    submitted_attempt: int | None = None
    ended_attempt: int | None = None
    attempts_taken_back: int = 0
    fresh_attempt: int | None = None
    fresh_since: float | None = None
    provenance: str | None = None
    stopwatch: _Measured = None
    limit_stopwatch: _Measured = None
    stopped_attempt: int | None = None
    stopped_for: str | None = None
    timed_out_attempt: int | None = None
    resumed_attempt: int | None = None
    resumed_from_step: int | None = None
    schedule: str | None = None
    overlap: Overlap | None = None
    fires_at: _Instant | None = None
    run_name: str | None = None
    part_of: str | None = None
    part: str | None = None
    ordered: bool = False
    unread: _YesOrNo = False
    metrics: str | None = None
    result_marks: str | None = None
    stopped_early: str | None = None
    one_part_attempt: int | None = None
    from_job: str | None = None
    submission: str | None = None
    note: str | None = None
    hourly_price: float | None = None
    account: _Account = None
    over_budget_attempt: int | None = None
    over_budget_for: str | None = None
    launch_log: str | None = None
    collected_attempt: int | None = None
    collected_into: str | None = None
    collected_part: str | None = None

    @classmethod
    def read(cls, labels: Mapping[str, object]) -> Self:
        """Read the labels of a run; leave out those of others, and values that are not valid."""
        given = {
            name: value
            for name in cls.model_fields
            if (value := labels.get(f"{_PREFIX}{name}")) is not None
        }
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            invalid = {one["loc"][0] for one in error.errors()}
            return cls.model_validate({k: v for k, v in given.items() if k not in invalid})

    def with_changes(self, changes: Self) -> Self:
        """These labels, with the fields that `changes` sets."""
        update = {name: getattr(changes, name) for name in changes.model_fields_set}
        return self.model_copy(update=update)

    def as_labels(self) -> dict[str, LabelValue]:
        """The fields that were set, as Prefect's API takes labels; None sets no label."""
        given = self.model_dump(mode="json", exclude_unset=True)
        return {f"{_PREFIX}{name}": value for name, value in given.items() if value is not None}
