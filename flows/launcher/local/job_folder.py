"""The folder of one local job: its request, its processes, and how it ended.

Files, all private to their owner:

=============  ===================================================================================
``spec.json``  the request; never changes
``run.sh``     the bash script: setup part, then run part
``log.txt``    standard output and error of the job
``lock``       locked by the job's supervisor for as long as it lives
``phase``      one letter, written by the script: ``S`` in the setup part, ``R`` in the run part
``cancel``     blank, or the grace in seconds of the shortest cancel request
``pause``      two letters: ``P`` while a pause is requested, and ``P`` while the job is frozen
``process``    appears before the job's first process runs: who supervises, who leads
``exit.json``  appears once, when the job has ended and none of its processes is left
=============  ===================================================================================

A training into which the progress hook was loaded adds ``marks_checkpoints``.

Everything written after the launch overwrites space reserved at the launch, so that the outcome is
recorded even on a full disk. Standard library only.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, NamedTuple

from flows.launcher.local.processes import lock_holder, open_descriptor
from flows.launcher.local.slots import Unit

JOB_DIR_ENV: Final = "OUMI_FLOWS_JOB_DIR"
"""Environment variable of every process of a job; its value identifies stray processes."""
_EXIT_BYTES: Final = 2048
_PROCESS_BYTES: Final = 1024
_CANCEL_BYTES: Final = 16
_PAUSED: Final = b"P"
_NOT_PAUSED: Final = b"-"
_RESERVED: Final = ".reserved"


class JobSpec(NamedTuple):
    """The request."""

    job_id: str
    name: str
    cluster: str
    shell: str
    env: dict[str, str]
    """Added to the environment with which its supervisor was started."""
    working_dir: str
    cancel_grace_seconds: float
    submitted_at: float
    ticket: int
    """Place in the order of submission, over all clusters; no clock involved."""
    units: list[Unit]
    """What the machine has, to wait for."""
    is_keyed: bool
    """Whether the caller chose the id, and can therefore launch the same job again."""
    uses_control_group: bool = True
    """Whether its processes get a control group of their own where the system allows it."""
    umask: int | None = None
    """Of the job's processes; None: that of the supervisor."""
    gpus: int = 0
    """Whole GPUs that it asks for; 0: one share of the machine."""
    sets_devices: bool = False
    """Whether it chooses its GPUs itself."""


class ProcessRecord(NamedTuple):
    """The processes of a job that was started."""

    supervisor_pid: int
    leader_pid: int
    leader_start: int
    boot_id: str
    started_at: float
    control_group: str = ""
    """Folder of the job's control group; empty: the system allowed none."""
    devices: str = ""
    """Its CUDA_VISIBLE_DEVICES; empty: as its supervisor's."""


class ExitRecord(NamedTuple):
    """How a job ended; `reason` is a TerminationReason."""

    reason: str
    exit_code: int | None
    signal: int | None
    phase: str
    started_at: float | None
    ended_at: float


class JobFolder:
    """The files of one job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log_path = path / "log.txt"
        self.script_path = path / "run.sh"
        self.lock_path = path / "lock"
        self._cancel_path = path / "cancel"
        self._pause_path = path / "pause"
        self._phase_path = path / "phase"
        self._process_path = path / "process"
        self._exit_path = path / "exit.json"

    def create(self, spec: JobSpec, *, setup: str, run: str) -> bool:
        """Create the whole folder in one step; False if it exists already."""
        making = Path(tempfile.mkdtemp(prefix=".new-", dir=self.path.parent))
        try:
            files = {
                "spec.json": json.dumps(spec._asdict()),
                "run.sh": self._script(spec.working_dir, setup=setup, run=run),
                "log.txt": "",
                "lock": "",
                "phase": "S",
                "cancel": " " * _CANCEL_BYTES,
                "pause": "  ",
                "process" + _RESERVED: " " * _PROCESS_BYTES,
                "exit.json" + _RESERVED: " " * _EXIT_BYTES,
            }
            for name, text in files.items():
                with (
                    open_descriptor(making / name, os.O_WRONLY | os.O_CREAT) as fd,
                    open(
                        fd, "w", encoding="utf-8", errors="surrogateescape", closefd=False
                    ) as file,
                ):
                    file.write(text)
            # Renaming onto a folder that is not empty fails: one creator wins.
            os.rename(making, self.path)  # noqa: PTH104
        except OSError:
            shutil.rmtree(making, ignore_errors=True)
            if self.path.is_dir():
                return False
            raise
        return True

    def spec(self) -> JobSpec:
        """The request."""
        fields = json.loads((self.path / "spec.json").read_bytes())
        # A job that was submitted before units has these.
        devices = fields.get("devices") or [""] * fields.get("slots", 1)
        before = [(str(number), device, number) for number, device in enumerate(devices)]
        units = [Unit(*unit) for unit in fields.pop("units", before)]
        known = {name: value for name, value in fields.items() if name in JobSpec._fields}
        return JobSpec(**known, units=units)

    def supervisor_pid(self) -> int | None:
        """Pid of the live supervisor, None without one; 0 if this process cannot see it."""
        return lock_holder(self.lock_path)

    def was_supervised(self) -> bool:
        """Whether a supervisor ever took the job on."""
        return self.lock_path.stat().st_size > 0

    def log_tail(self, limit: int) -> str:
        """The last bytes of the log, as text."""
        with open_descriptor(self.log_path, os.O_RDONLY) as fd:
            size = os.fstat(fd).st_size
            return os.pread(fd, limit, max(0, size - limit)).decode(errors="replace")

    def phase(self) -> str:
        """The part of the script the job has reached: ``setup`` or ``run``."""
        return "run" if self._phase_path.read_bytes() == b"R" else "setup"

    def request_cancel(self, grace_seconds: float) -> None:
        """Request that the job is cancelled; of several requests, the shortest grace counts."""
        with open_descriptor(self._cancel_path, os.O_RDWR) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            earlier = _grace(os.pread(fd, _CANCEL_BYTES, 0))
            grace = grace_seconds if earlier is None else min(earlier, grace_seconds)
            os.pwrite(fd, f"{grace:.3f}".ljust(_CANCEL_BYTES).encode(), 0)

    def cancel_request(self) -> float | None:
        """The grace in seconds of the cancel request; None if there is none."""
        return _grace(self._cancel_path.read_bytes())

    def request_pause(self, *, paused: bool) -> None:
        """Request that the job is frozen, or that it goes on; the last request counts.

        Raises:
            FileNotFoundError: An earlier version started the job, whose supervisor cannot do it.
        """
        self._write_pause(0, paused=paused)

    def pause_request(self) -> bool | None:
        """Whether a pause is requested; None: neither a pause nor its end was ever requested."""
        return self._read_pause(0)

    def record_pause(self, *, paused: bool) -> None:
        """Record that the job is frozen, or that it goes on; for its supervisor."""
        self._write_pause(1, paused=paused)

    def is_paused(self) -> bool | None:
        """Whether the job is frozen; None: this job cannot be."""
        return self._read_pause(1) or False if self._pause_path.exists() else None

    def _write_pause(self, place: int, *, paused: bool) -> None:
        with open_descriptor(self._pause_path, os.O_WRONLY) as fd:
            os.pwrite(fd, _PAUSED if paused else _NOT_PAUSED, place)

    def _read_pause(self, place: int) -> bool | None:
        try:
            letter = self._pause_path.read_bytes()[place : place + 1]
        except FileNotFoundError:
            return None
        return None if not letter.strip() else letter == _PAUSED

    def record_process(self, record: ProcessRecord) -> None:
        """Record that the job's first process is about to run."""
        self._publish(self._process_path, self._reserve(self._process_path), record._asdict())

    def process_record(self) -> ProcessRecord | None:
        """Who runs the job; None if it was never started."""
        fields = _read(self._process_path, ProcessRecord._fields)
        return None if fields is None else ProcessRecord(**fields)

    def record_exit(self, record: ExitRecord, *, reserved: bool) -> bool:
        """Record how the job ended; False, without a change, if that is already on record.

        Args:
            record: How it ended.
            reserved: Write to the reserved space, which only the supervisor may.
        """
        reserve = self._reserve(self._exit_path)
        if reserved:
            return self._publish(self._exit_path, reserve, record._asdict())
        handle, name = tempfile.mkstemp(prefix=".exit-", dir=self.path)
        os.close(handle)
        return self._publish(self._exit_path, Path(name), record._asdict())

    def flush(self) -> None:
        """Wait until the exit record is on the disk itself; seconds on a busy disk."""
        with open_descriptor(self._exit_path, os.O_RDONLY) as fd:
            os.fsync(fd)

    def exit_record(self) -> ExitRecord | None:
        """How the job ended; None if it has not."""
        fields = _read(self._exit_path, ExitRecord._fields)
        return None if fields is None else ExitRecord(**fields)

    @staticmethod
    def _reserve(path: Path) -> Path:
        return path.with_name(path.name + _RESERVED)

    @staticmethod
    def _publish(path: Path, draft: Path, fields: dict[str, Any]) -> bool:
        with open_descriptor(draft, os.O_RDWR) as fd:
            size = os.fstat(fd).st_size
            os.pwrite(fd, json.dumps(fields).encode().ljust(size), 0)
        try:
            # A link is made once and shows the whole record or nothing.
            os.link(draft, path)
        except FileExistsError:
            if _read(path) is not None:
                return False
            draft.replace(path)  # the earlier record did not survive a power failure
            return True
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _script(self, working_dir: str, *, setup: str, run: str) -> str:
        # `1<>` overwrites the letter in place, so that a full disk does not fail the job.
        phase = _quote(str(self._phase_path))
        return (
            f"set -e\ncd -- {_quote(working_dir)}\n\n"
            f"# --- setup ---\n{setup}\n\n"
            f"# --- run ---\nprintf R 1<>{phase}\n{run}\n"
        )


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _grace(text: bytes) -> float | None:
    return float(text) if text.strip() else None


def _read(path: Path, names: Collection[str] = ()) -> dict[str, Any] | None:
    """Read fields of a record; None if it does not exist, or a power failure damaged it.

    A job started before an upgrade may have fields that are no longer used: they are left out.
    """
    try:
        fields = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return {name: value for name, value in fields.items() if name in names}
