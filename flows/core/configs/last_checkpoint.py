"""Finds the checkpoint of a job that has ended, for another job to continue from."""

from pathlib import Path

from pydantic import Field

from flows.core.configs.own_checkpoints import OwnCheckpoints, Owner
from flows.core.models import Answer, Value


class CheckpointQuestion(Value):
    """The job whose last whole checkpoint to find.

    Attributes:
        folder: Where it wrote its results.
        owner: The job.
    """

    folder: str
    owner: Owner


class LastCheckpoint(Answer):
    """The last whole checkpoint of a job.

    Attributes:
        path: Its folder; None: the job has no whole checkpoint.
        step: Its step.
        skipped: Why each checkpoint before it was skipped.
    """

    path: str | None = None
    step: int = 0
    skipped: list[str] = Field(default_factory=list[str])


def find_last_checkpoint(question: CheckpointQuestion) -> LastCheckpoint:
    """Find the last whole checkpoint that a job wrote. Blocking: it reads files."""
    said: list[str] = []
    found = OwnCheckpoints(Path(question.folder), question.owner, say=said.append).last()
    if found is None:
        return LastCheckpoint(summary="No whole checkpoint.", skipped=said[:3])
    return LastCheckpoint(
        summary=f"Step {found.step}.", path=str(found.path), step=found.step, skipped=said[:3]
    )
