"""Where an attempt of a training starts: at the last whole checkpoint, or at the beginning."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flows.core.configs.checkpoints import Checkpoint
from flows.core.configs.overrides import apply_overrides
from flows.core.configs.own_checkpoints import OwnCheckpoints, Owner
from flows.core.configs.plan import RESUME_KEY, TRY_RESUME_KEY, lookup, output_folder
from flows.core.configs.reader import ConfigFile, ConfigKind
from flows.core.models import Command, JobRequest, OverrideValue
from flows.core.run_labels import RunLabels
from flows.job.run_record import RunRecord
from flows.job.shared_output import Sharing
from flows.launcher.progress_hook import SIGN


class Start(NamedTuple):
    """Where an attempt starts.

    Attributes:
        overrides: What makes the training start there.
        labels: What the run must say of it.
    """

    overrides: dict[str, OverrideValue]
    labels: RunLabels


def choose_start(
    request: JobRequest,
    config: ConfigFile,
    record: RunRecord,
    *,
    attempt: int,
    sharing: Sharing,
    say: Callable[..., None],
) -> Start:
    """Choose where an attempt starts. Blocking: it may copy a checkpoint.

    Args:
        request: What to run, with the output folder of this run.
        config: Its config.
        record: The flow run.
        attempt: The number of the attempt.
        sharing: The other jobs that wrote to the job's folder since it began.
        say: Writes a line to the run's log.
    """
    fresh = record.labels.fresh_attempt == attempt
    is_training = config.kind is ConfigKind.COMMAND and request.command is Command.TRAIN
    if not is_training or not (attempt > 1 or fresh):
        return Start({}, RunLabels())
    data = apply_overrides(config.data, request.overrides, request.command)
    tries = lookup(data, request.command, TRY_RESUME_KEY) not in (None, False)
    labels = RunLabels()
    if fresh:
        labels = RunLabels(fresh_since=time.time())
    elif folder := output_folder(request, config):
        inherits = tries and not lookup(data, request.command, RESUME_KEY)
        owner = _owner(record, inherits=inherits, sharing=sharing)
        checkpoint = _last_checkpoint(folder, owner, sharing, say)
        if checkpoint is not None:
            say("Resuming from step %s: %s", checkpoint.step, checkpoint.path)
            labels = RunLabels(resumed_attempt=attempt, resumed_from_step=checkpoint.step)
            # It goes before training.try_resume_from_last_checkpoint, with which Oumi 0.9 takes
            # the highest checkpoint even when it was only half written.
            return Start({RESUME_KEY: str(checkpoint.path)}, labels)
    # For the same reason it must not try; verl finds its own whole checkpoints.
    verl = "VERL" in str(lookup(data, request.command, "training.trainer_type"))
    return Start({TRY_RESUME_KEY: False} if tries and (fresh or not verl) else {}, labels)


def _owner(record: RunRecord, *, inherits: bool, sharing: Sharing) -> Owner:
    run, labels = record.run, record.labels
    return Owner(
        job_id=run.id,
        began_at=run.start_time.timestamp() if run.start_time else 0.0,
        first_attempt=labels.fresh_attempt or 1,
        fresh_since=labels.fresh_since,
        inherits=inherits,
        marks=_marks_checkpoints(record),
        sharing=sharing.jobs,
    )


def _last_checkpoint(
    folder: Path, owner: Owner, sharing: Sharing, say: Callable[..., None]
) -> Checkpoint | None:
    """The last whole checkpoint of this job, or of the folder that its config resumes from."""
    own = OwnCheckpoints(folder, owner, say=say)
    checkpoint = own.last()
    if checkpoint is not None and sharing.is_live:
        checkpoint = own.set_aside(checkpoint)
    if checkpoint is None:
        say("No whole checkpoint of this job in %s", folder)
    return checkpoint


def _marks_checkpoints(record: RunRecord) -> bool:
    """Whether an attempt on this machine reported that its training marks checkpoints."""
    log_path = record.labels.log_path
    if not log_path:
        return False
    jobs = Path(log_path).parent.parent
    return any(True for _ in jobs.glob(f"oumi-{record.run.id.hex}-*/{SIGN}"))
