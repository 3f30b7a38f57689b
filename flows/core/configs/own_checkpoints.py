"""Which checkpoint of a folder the next attempt of a job may resume from."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

from flows.core.configs.checkpoints import COARSE_SECONDS, Checkpoint, whole_checkpoints
from flows.core.configs.marks import Mark, read_mark
from flows.core.models import Value


class Owner(Value):
    """The job that resumes.

    Attributes:
        began_at: When its first attempt began, in seconds since the epoch.
        first_attempt: The attempt that last started over; older checkpoints are skipped.
        fresh_since: When that attempt began; None: no attempt started over.
        inherits: Whether its config resumes from checkpoints of other jobs.
        marks: Whether its earlier attempts are known to mark their checkpoints.
        sharing: Other jobs that wrote to the folder since it began, for people.
        ended_at: When its last attempt ended; None: it has not ended.
    """

    job_id: UUID
    began_at: float
    first_attempt: int = 1
    fresh_since: float | None = None
    inherits: bool = False
    marks: bool = False
    sharing: Sequence[str] = ()
    ended_at: float | None = None


class OwnCheckpoints:
    """The checkpoints in a folder, as one job sees them.

    A mark names the job that a checkpoint belongs to. A checkpoint without a mark, of a training
    that did not load our hook, counts as the job's only if nothing contradicts it: it was
    written since the job began, no attempt of the job marks what it writes, and no other job is
    known to have written to the folder meanwhile.

    Args:
        folder: Where the job writes.
        owner: The job.
        say: Takes each line about a checkpoint that is skipped, or used without a mark.
    """

    def __init__(self, folder: Path, owner: Owner, *, say: Callable[[str], None]) -> None:
        self._owner = owner
        self._say = say
        self._aside = folder / f"kept-{owner.job_id.hex[:12]}"
        found = [*whole_checkpoints(self._aside), *whole_checkpoints(folder)]
        found.sort(key=lambda one: one.step, reverse=True)
        self._found = [(one, read_mark(one.path)) for one in found]

    def last(self) -> Checkpoint | None:
        """The checkpoint with the highest step that the job may resume from."""
        for checkpoint, mark in self._found:
            why = self._refusal(checkpoint, mark)
            if not why:
                return checkpoint
            self._say(f"Skipped {checkpoint.path}: {why}")
        return None

    def set_aside(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """Copy a checkpoint, so that no other training writes over it while it is read.

        None: the copy failed, or another training began to write over the checkpoint meanwhile.
        """
        copy = Checkpoint(path=self._aside / checkpoint.path.name, step=checkpoint.step)
        if copy == checkpoint:
            return checkpoint
        if not self._copy(checkpoint.path, copy.path):
            return None
        still = (one for one in whole_checkpoints(checkpoint.path.parent) if one == checkpoint)
        if not any(read_mark(one.path) == read_mark(copy.path) for one in still):
            self._say(f"Skipped {checkpoint.path}: another training writes over it")
            shutil.rmtree(copy.path, ignore_errors=True)
            return None
        self._say(f"Copied {checkpoint.path} to {copy.path}: a live job writes to its folder")
        return copy

    def _copy(self, folder: Path, target: Path) -> bool:
        try:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(folder, target)
        except OSError as error:
            self._say(f"{folder} could not be copied to {target}: {error}")
            return False
        return True

    def _refusal(self, checkpoint: Checkpoint, mark: Mark | None) -> str:
        """Why the job may not go on from a checkpoint; empty if it may."""
        owner = self._owner
        if owner.fresh_since is None and owner.inherits and self._was_there(checkpoint):
            return ""  # its first attempt would have resumed from it, too
        if mark is None:
            return self._refusal_of_unmarked(checkpoint)
        if mark.job_id is None:
            return "another training wrote into it after the one that marked it"
        if mark.job_id != owner.job_id:
            return f"job {mark.job_id} wrote it"
        if mark.attempt < owner.first_attempt:
            return (
                f"attempt {mark.attempt} wrote it, and attempt {owner.first_attempt} started over"
            )
        return ""

    def _refusal_of_unmarked(self, checkpoint: Checkpoint) -> str:
        owner = self._owner
        since = owner.began_at - COARSE_SECONDS if owner.fresh_since is None else owner.fresh_since
        if checkpoint.written_at < since:
            return "it is older than the job, or than the attempt that started over"
        if owner.ended_at is not None and checkpoint.written_at > owner.ended_at + COARSE_SECONDS:
            return "it has no mark, and it is younger than the end of the job"
        if owner.marks or any(mark and mark.job_id == owner.job_id for _, mark in self._found):
            return "it has no mark, and this job marks its checkpoints"
        others = [*owner.sharing, *self._others()]
        if others:
            return f"it has no mark, and job {others[0]} wrote to the same folder"
        self._say(
            f"{checkpoint.path} has no mark of the job that wrote it. It counts as this job's: it "
            "was written since this job began, and no other job is known to write there"
        )
        return ""

    def _was_there(self, checkpoint: Checkpoint) -> bool:
        """Whether it was there before the job began."""
        return checkpoint.written_at < self._owner.began_at

    def _others(self) -> Iterator[UUID]:
        """The other jobs whose marks in the folder are younger than this job."""
        for checkpoint, mark in self._found:
            if mark and mark.job_id and not self._was_there(checkpoint):
                yield mark.job_id
