"""Warm hosts of tests: they import next to nothing, and fork a program of the test's own."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from flows.launcher.local.inherited_environment import inherited_environment
from flows.launcher.local.warm.start import WarmOptions, WarmStart
from tests.support.waiting import eventually_sync

_PROGRAM: Final = f"""#!{sys.executable}
import sys
if __name__ == "__main__":
    with open(sys.argv[2]) as file:
        code = compile(file.read(), "command", "exec")
    exec(code)
"""
_OF_PYTEST: Final = "PYTEST_CURRENT_TEST"


class WarmHosts:
    """Warm hosts in folders below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._starts: list[WarmStart] = []
        self._shared: WarmStart | None = None
        self.program = root / "programs" / "oumi"
        """Runs the Python file that follows the name of the command."""
        self.program.parent.mkdir()
        self.program.write_text(_PROGRAM)
        self.program.chmod(0o755)

    def shared(self) -> WarmStart:
        """A host that several tests use."""
        if self._shared is None:
            self._shared = self.make()
        return self.ready(self._shared)

    def make(
        self,
        modules: Sequence[str] = (),
        *,
        idle_seconds: float = 600.0,
        free_memory: float = 0.0,
        **environment: str,
    ) -> WarmStart:
        """A start of its own; its host is not there yet."""
        options = WarmOptions(
            folder=self._root / str(len(self._starts)),
            program=self.program,
            modules=modules,
            idle_seconds=idle_seconds,
            free_memory=free_memory,
        )
        start = WarmStart(options, environment=lambda: {**inherited(), **environment})
        self._starts.append(start)
        return start

    def ready(self, start: WarmStart) -> WarmStart:
        """The same start, once its host can fork."""
        start.prepare()
        eventually_sync(lambda: start.pid is not None, interval=0.01)
        return start

    def close(self) -> None:
        for start in self._starts:
            pid = start.pid
            start.close()
            eventually_sync(lambda pid=pid: pid is None or not _exists(pid), interval=0.01)


def inherited() -> dict[str, str]:
    """What jobs inherit, less what changes from test to test."""
    environment = inherited_environment(os.environ)
    environment.pop(_OF_PYTEST, None)
    return environment


def _exists(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
