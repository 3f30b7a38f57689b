"""Programs in the foreground, ended in the reverse order of their start, also if we die."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from tests.support.waiting import eventually_sync

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


class Daemons:
    """The programs of one lab, each with a log of its own in `logs`."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(
        self,
        *command: str | Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        timeout: float = _START_SECONDS,
    ) -> None:
        """Start a program and wait until it is ready.

        Raises:
            RuntimeError: It ended, or was not ready in time; says its last words.
        """
        name = Path(command[0]).name
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                # The kernel ends it if this process is killed.
                ["setpriv", "--pdeathsig", "TERM", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._running.append((name, process))
        try:
            eventually_sync(
                lambda: process.poll() is not None or ready(), timeout=timeout, interval=0.1
            )
        except AssertionError:
            raise RuntimeError(f"{name} was not ready in time: {_tail(log)}") from None
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}: {_tail(log)}")

    def children(self, name: str) -> list[psutil.Process]:
        """The processes that a program has started, and theirs."""
        return [
            child
            for running, process in self._running
            if running == name and process.poll() is None
            for child in psutil.Process(process.pid).children(recursive=True)
        ]

    def kill(self, name: str) -> None:
        """End a program without a chance to tidy up."""
        for running, process in self._running:
            if running == name:
                process.kill()
        self.stop(name)

    def stop(self, name: str | None = None) -> None:
        """End one program, or all of them, the last one first."""
        for entry in reversed(self._running):
            if name in (None, entry[0]):
                self._running.remove(entry)
                _end(entry[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:]
