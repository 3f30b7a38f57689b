"""Freezes and thaws the processes of one local job, as its folder asks. Standard library only."""

from contextlib import suppress

from flows.core.training.recorder import Recorder, record_folder
from flows.core.training.usage_names import PAUSE_EVENT, RESUME_EVENT, USAGE_SEGMENT
from flows.launcher.local.job_folder import JobFolder
from flows.launcher.local.job_tree import JobTree


class Freezer:
    """Keeps the processes of a job as the request in its folder says; for its supervisor.

    The time during which the job is frozen goes to the training record: it is no time of training.

    Args:
        folder: The job.
        tree: Its processes.
    """

    def __init__(self, folder: JobFolder, tree: JobTree) -> None:
        self._folder = folder
        self._tree = tree
        self._recorder = Recorder(record_folder(folder.log_path), USAGE_SEGMENT)
        self._wanted: bool | None = None

    @property
    def is_holding(self) -> bool:
        """Whether the job is frozen, or about to be."""
        return self._wanted is True

    def follow(self) -> bool:
        """Freeze or thaw the job if that is requested; return whether it must be looked at soon."""
        wanted = self._folder.pause_request()
        if wanted is None:
            return False
        if not wanted:
            self.thaw()
            return False
        if self._wanted is True and self._folder.is_paused():
            return False
        self._wanted = True
        self._tree.freeze()
        if not self._tree.is_frozen():
            return True
        self._record(paused=True)
        return False

    def thaw(self) -> None:
        """Let a frozen job go on, whatever the request says."""
        if self._wanted is False or self._folder.pause_request() is None:
            return
        # A supervisor that has just taken the job over does not know whether it is frozen.
        self._wanted = False
        self._tree.thaw()
        self._record(paused=False)

    def _record(self, *, paused: bool) -> None:
        if self._folder.is_paused() == paused:
            return
        with suppress(OSError):  # a full disk: the pause counts as time of training
            self._recorder.note(PAUSE_EVENT if paused else RESUME_EVENT, {})
        self._folder.record_pause(paused=paused)
