"""Session-wide fixtures: isolation from the person's own files, and a guard against leaks."""

import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.fixture import sky_lab, slurm_lab
from tests.support.isolation import SessionIsolation
from tests.support.leaks import assert_nothing_left
from tests.support.prefect_server import prefect
from tests.support.prepared import prepared
from tests.support.stack import cold_stack, stack

# Fixtures that many folders use: imported once, as each import makes another one of them.
__all__ = ["cold_stack", "prefect", "prepared", "sky_lab", "slurm_lab", "stack"]

_ISOLATION = pytest.StashKey[SessionIsolation]()

_LONG_SECONDS = {
    "faults/test_kills.py": 80.0,
    "e2e/test_demo.py": 70.0,
    "engine/test_life_cycle.py": 65.0,
    "e2e/test_stdout.py": 60.0,
    "checks/test_corpus.py": 45.0,
    "e2e/test_secrets.py": 40.0,
    "e2e/test_schedules.py": 35.0,
}
"""How long files take that have few tests, on two cores; the order alone depends on it."""


def pytest_configure(config: pytest.Config) -> None:
    # Before any test module is imported: Prefect and others read the environment on import.
    config.stash[_ISOLATION] = SessionIsolation.enter()
    # What a shell starts in the background ignores Ctrl-C, and so does what that starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_ISOLATION].leave()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The file that takes longest first, so that no process is left with it at the end.
    seconds: dict[Path, float] = defaultdict(float)
    for item in items:
        seconds[item.path] += 2.0 if item.get_closest_marker("engine") else 0.2
    for name, known in _LONG_SECONDS.items():
        if (path := Path(__file__).parent / name) in seconds:
            seconds[path] = known
    items.sort(key=lambda item: -seconds[item.path])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Here, as the main process of several loads the conftest files of no folder below.
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in getattr(report, "user_properties", ()):
                if name == "shown":
                    terminalreporter.write_line(f"\n{text}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def leak_guard(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up before every other fixture, so torn down after all of them."""
    yield
    isolation = request.config.stash[_ISOLATION]
    assert_nothing_left(isolation.marker, isolation.root)


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """$OUMI_FLOWS_SCREENSHOTS, to look at them; else a folder that goes with the test."""
    folder = Path(os.environ.get("OUMI_FLOWS_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
