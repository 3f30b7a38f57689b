"""Where the attempts of a job write their logs on this machine."""

from pathlib import Path
from typing import NamedTuple

from flows.core import names
from mcp_server.prefect_api.models import FlowRun


class LogFiles(NamedTuple):
    """The log files of a job's attempts, which differ only in the launch key in their paths.

    Attributes:
        last: The log of the last attempt that has one.
        attempt: Number of that attempt.
        prefix: Prefix of the launch keys of all attempts; empty: the path has no launch key, so
            other attempts have no log here.
    """

    last: Path
    attempt: int
    prefix: str

    @classmethod
    def of(cls, run: FlowRun) -> "LogFiles | None":
        """Find the log files of a job; None: no attempt has one yet."""
        label = run.labels.log_path
        if not label:
            return None
        # A retry counts the attempt before the worker labels its log.
        prefix = names.launch_key(run.id, 1).removesuffix("1")
        for part in Path(label).parts:
            number = part.partition(".")[0].removeprefix(prefix)
            if part.startswith(prefix) and number.isdecimal():
                return cls(Path(label), int(number), prefix)
        return cls(Path(label), run.attempt, "")

    def of_attempt(self, attempt: int) -> Path:
        """Return the log of an attempt."""
        if attempt == self.attempt or not self.prefix:
            return self.last
        key = f"{self.prefix}{self.attempt}"
        parts = (
            part.replace(key, f"{self.prefix}{attempt}") if part.partition(".")[0] == key else part
            for part in self.last.parts
        )
        return Path(*parts)

    @property
    def first_attempt(self) -> int:
        """The number of the first attempt whose log is here."""
        return 1 if self.prefix else self.attempt

    def all_attempts(self) -> list[str]:
        """Return the logs of all attempts, the first attempt first."""
        numbers = range(self.first_attempt, self.attempt + 1)
        return [str(self.of_attempt(number)) for number in numbers]

    def is_here(self) -> bool:
        """Whether the log is, or will be, on a disk of this machine. Blocking."""
        return self.last.parent.is_dir()


class LaunchLog(NamedTuple):
    """The log of the launch of a job's last attempt, which is in progress or has failed.

    Attributes:
        path: The file, on the worker's machine.
        attempt: Number of the attempt.
    """

    path: Path
    attempt: int

    @classmethod
    def of(cls, run: FlowRun) -> "LaunchLog | None":
        """Find it; None: the last attempt was launched, or its launcher keeps no log of that."""
        labels = run.labels
        submitted = labels.submitted_attempt or 0
        if not labels.launch_log or submitted <= (labels.launched_attempt or 0):
            return None
        return cls(Path(labels.launch_log), submitted).of_attempt(run, submitted)

    def of_attempt(self, run: FlowRun, attempt: int) -> "LaunchLog":
        """The log of the launch of another attempt."""
        name = names.launch_log(Path(), "", names.launch_key(run.id, attempt)).name
        return LaunchLog(self.path.with_name(name), attempt)

    def is_here(self) -> bool:
        """Whether it is on a disk of this machine. Blocking."""
        return self.path.is_file()
