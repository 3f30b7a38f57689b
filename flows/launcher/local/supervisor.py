"""The process that runs one local job to its end and records how it ended.

It starts detached, with a bare interpreter, and knows only the job's folder: the programs that
launch and watch the job may end. One job has one
supervisor at a time (the lock in its folder) and starts at most once (its process record). If the
earlier supervisor of a started job died, the next one does not run the job again: it waits for, or
kills, the processes that are left. Standard library only.
"""

import fcntl
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from flows.core.names import DEVICES_ENV
from flows.core.states import TerminationReason
from flows.core.training.recorder import record_folder
from flows.launcher.local.freezer import Freezer
from flows.launcher.local.job_folder import ExitRecord, JobFolder, JobSpec
from flows.launcher.local.job_tree import IGNORED, JobTree
from flows.launcher.local.memory_shortage import MemoryShortage
from flows.launcher.local.slot_queue import SlotQueue
from flows.launcher.local.slots import Unit, devices_of
from flows.launcher.local.usage_sampler import UsageSampler
from flows.launcher.local.warm.door import Door
from flows.launcher.signals import signal_from_outside, signal_of_first_failure

READY: Final = b"1"
"""What a supervisor writes once it has its place in the queue, or has nothing to do."""
LEFTOVER_GRACE_SECONDS: Final = 2.0
"""From SIGTERM to SIGKILL for processes that outlive the job's script."""
# Changes come as signals; these limit the delay where a signal was never sent.
_QUEUE_LOOK_SECONDS: Final = 2.0
_SHORTEST_LOOK_SECONDS: Final = 0.05
_END_LOOK_SECONDS: Final = 0.1
_TAIL_BYTES: Final = 16_384
_WAKES: Final = frozenset({signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM, signal.SIGIO})


class DoorMaker(Protocol):
    """Makes the door of a job, through which its scripts have commands forked."""

    def __call__(self, folder: JobFolder, enter: Callable[[int], None]) -> Door:
        """Make the door of the job in `folder`; `enter` takes in a forked process."""
        ...


def main(job_dir: str, *, make_door: DoorMaker | None = None) -> None:
    """Supervise the job in `job_dir` from a process of its own.

    Args:
        job_dir: The job's folder.
        make_door: Makes the job's door; None: it has none.

    Raises:
        Became: This is a process that was forked for a command of the job.
    """
    if os.fork():
        os._exit(0)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in _WAKES:
        signal.signal(number, _wake)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAKES)
    folder = JobFolder(Path(job_dir))
    # This process must not open the file again: closing any descriptor releases the lock.
    lock = os.open(folder.lock_path, os.O_RDWR)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # either errno means: another supervisor has the job
        _say_ready()
        return
    if folder.exit_record() is not None:
        _say_ready()
        return
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    try:
        Supervisor(folder, folder.spec(), make_door=make_door).supervise()
    except Exception:  # noqa: BLE001 - the process's edge: report why, and do not stay pending
        traceback.print_exc()
        if folder.process_record() is None:
            folder.record_exit(_exit_record(TerminationReason.LAUNCH_FAILED), reserved=True)


class Supervisor:
    """Brings one job to its end, whatever its state; the caller holds the job's lock."""

    def __init__(
        self, folder: JobFolder, spec: JobSpec, *, make_door: DoorMaker | None = None
    ) -> None:
        self._folder = folder
        self._spec = spec
        self._tree = JobTree(folder, spec)
        self._freezer = Freezer(folder, self._tree)
        self._door = make_door(folder, self._tree.enter) if make_door else None
        self._shortage = MemoryShortage(None)
        root = folder.path.parents[2]
        self._queue = SlotQueue(root, ticket=spec.ticket, units=spec.units, gpus=spec.gpus)

    def supervise(self) -> None:
        """Run the job, or end what is left of it after its earlier supervisor died."""
        record = self._folder.process_record()
        if record is None:
            self._queue.join()
            _say_ready()
            units = self._wait_for_units()
            ended = self._run(units) if units else self._cancelled_in_queue()
        else:
            _say_ready()
            self._tree.adopt(record)
            ended = self._watch(record.started_at, since=None)
        self._folder.record_exit(ended, reserved=True)
        self._queue.release()
        self._folder.flush()

    def _wait_for_units(self) -> list[Unit]:
        """Wait for what the job needs of the machine; empty if it was cancelled first.

        A paused job gives up its place, and gets it back when it goes on.
        """
        while self._folder.cancel_request() is None:
            if self._is_held():
                _wait(_QUEUE_LOOK_SECONDS)
                continue
            units = self._queue.take_units()
            if units:
                return units
            _wait(_QUEUE_LOOK_SECONDS)
        return []

    def _is_held(self) -> bool:
        """Whether a pause keeps the job from starting."""
        is_held = bool(self._folder.pause_request())
        if is_held:
            self._queue.leave()
        elif not self._queue.has_place:
            self._queue.join()
        if is_held or self._folder.is_paused():
            self._folder.record_pause(paused=is_held)
        return is_held

    def _cancelled_in_queue(self) -> ExitRecord:
        self._queue.leave()
        return _exit_record(TerminationReason.USER_CANCELLED)

    def _run(self, units: list[Unit]) -> ExitRecord:
        started_at = max(time.time(), self._spec.submitted_at)
        since = time.monotonic()
        devices, whole = devices_of(units), devices_of(self._spec.units)
        is_free = self._spec.sets_devices or devices == whole
        error = self._tree.start(
            devices="" if is_free else devices,
            unit_fds=self._queue.unit_fds,
            started_at=started_at,
            programs=self._open_door(),
        )
        if error:
            _log(f"cannot start {self._spec.shell}: {error}")
            return _exit_record(TerminationReason.LAUNCH_FAILED)
        group = self._tree.group
        self._shortage = MemoryShortage(group.path if group else None)
        return self._watch(started_at, since=since)

    def _open_door(self) -> str:
        """Take requests for commands; return the folder of the program that makes them."""
        if self._door is None or not self._door.open():
            self._door = None
            return ""
        self._tree.on_end = self._door.note_end
        return self._door.programs

    def _watch(self, started_at: float, *, since: float | None) -> ExitRecord:
        """Wait for the job's end, end every process that is left, and describe the end.

        Args:
            started_at: Wall-clock time of the start.
            since: Monotonic time of the start, if this process started the job.
        """
        sampler = self._sampler(started_at)
        reason = self._wait_for_end(sampler)
        sampler.finish()
        if self._door is not None:
            self._door.close()
        now = time.time() if since is None else started_at + time.monotonic() - since
        status = self._tree.exit_status
        # Before the end is on record: if this process dies in between, its successor does both.
        self._tree.remove_group()
        return ExitRecord(
            reason=reason,
            exit_code=status if status is not None and status >= 0 else None,
            signal=-status if status is not None and status < 0 else None,
            phase=self._folder.phase(),
            started_at=started_at,
            ended_at=max(now, started_at),
        )

    def _wait_for_end(self, sampler: UsageSampler) -> TerminationReason:
        reason: TerminationReason | None = None
        terminated_at = 0.0
        while self._tree.is_alive():
            if self._door is not None and not self._freezer.is_holding:
                self._door.serve()
            grace = self._folder.cancel_request()
            if reason is None:
                # The script's end or a request decides for good, whichever is observed first.
                if self._tree.exit_status is not None:
                    reason = self._own_end()
                elif grace is not None:
                    reason = TerminationReason.USER_CANCELLED
                else:
                    self._shortage.look()
                    self._rest(sampler)
                    continue
                terminated_at = time.monotonic()
                if self._door is not None:
                    self._door.end()
                self._tree.signal(signal.SIGTERM)
                # A stopped process would not handle it. One that thaws handles it first.
                self._freezer.thaw()
                self._tree.signal(signal.SIGCONT)
            if reason is not TerminationReason.USER_CANCELLED:
                grace = min(LEFTOVER_GRACE_SECONDS, grace or LEFTOVER_GRACE_SECONDS)
            if time.monotonic() >= terminated_at + (grace or 0.0):
                self._tree.signal(signal.SIGKILL)
            _wait(_END_LOOK_SECONDS)
        return reason or self._own_end()

    def _rest(self, sampler: UsageSampler) -> None:
        """Wait for the next change of a running job; freeze or thaw it, as is requested."""
        is_unsettled = self._freezer.follow()
        if self._freezer.is_holding:
            _wait(_SHORTEST_LOOK_SECONDS if is_unsettled else _QUEUE_LOOK_SECONDS)
            return
        sampler.sample()
        _wait(max(_SHORTEST_LOOK_SECONDS, sampler.seconds_until_next()))

    def _sampler(self, started_at: float) -> UsageSampler:
        record = self._folder.process_record()
        group = self._tree.group
        return UsageSampler(
            record_folder(self._folder.log_path),
            pids=self._tree.members if group is None else lambda: sorted(group.pids()),
            cpu_seconds=lambda: group.cpu_seconds() if group else None,
            started_at=started_at,
            devices=(record and record.devices) or os.environ.get(DEVICES_ENV, ""),
        )

    def _own_end(self) -> TerminationReason:
        """Why the job ended, if it was not cancelled."""
        status = self._tree.exit_status
        if status is None:
            # The supervisor that could have known died. The job did end, as a request asked.
            was_asked = self._folder.cancel_request() is not None
            return TerminationReason.USER_CANCELLED if was_asked else TerminationReason.LOST
        if status and self._shortage.hit_the_job():
            return TerminationReason.OUT_OF_MEMORY
        number = signal_from_outside(status, max(0, -status))
        if number is None and status:
            number = signal_of_first_failure(self._folder.log_tail(_TAIL_BYTES))
        if number == signal.SIGKILL and self._shortage.explains_a_kill():
            return TerminationReason.OUT_OF_MEMORY
        if number is not None:
            return TerminationReason.KILLED
        if self._folder.phase() == "setup":
            if status == 0:
                _log("the setup part ended the script, so the run part was not reached")
            return TerminationReason.SETUP_FAILED
        return TerminationReason.NONZERO_EXIT if status else TerminationReason.COMPLETED


def _exit_record(reason: TerminationReason) -> ExitRecord:
    """The record of a job whose script never ran."""
    return ExitRecord(
        reason=reason,
        exit_code=None,
        signal=None,
        phase="queued",
        started_at=None,
        ended_at=time.time(),
    )


def _say_ready() -> None:
    with suppress(BrokenPipeError):  # the launcher has ended
        os.write(1, READY)
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 1)


def _log(text: str) -> None:
    with suppress(OSError):  # the disk is full; the outcome still counts
        os.write(2, f"[oumi-flows] {text}\n".encode())


def _wake(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal: some systems drop a blocked signal without a handler."""


def _wait(seconds: float) -> None:
    """Wait until a signal reports a change, or `seconds` have passed."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.sigwait(_WAKES)
    signal.setitimer(signal.ITIMER_REAL, 0)
