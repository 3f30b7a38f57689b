"""One warm embedded engine for the whole session, in a home folder of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.core.settings import Settings
from mcp_server.engine import Connection, Engine
from tests.support.control_groups import groups_left
from tests.support.prepared import PreparedEngine

REPOSITORY = Path(__file__).parents[2]
OUMI_FLOWS = Path(sys.executable).with_name("oumi-flows")
WORKER_SECRET = {"CANARY_WORKER_TOKEN": "wkr-5b7d9f13-canary-of-the-worker"}
"""What the worker has in its environment, and with it every local job."""


@dataclass(frozen=True)
class Stack:
    """A running engine, and how to reach it: the environment of every command of ours."""

    env: Mapping[str, str]
    connection: Connection
    engine: Engine

    def cli(self, *args: str, check: bool = True, timeout: float = 120.0) -> str:
        """Run ``oumi-flows ARGS`` and return what it printed on stdout.

        Raises:
            AssertionError: It exited non-zero and `check` is set; carries its stderr.
        """
        done = subprocess.run(
            [str(OUMI_FLOWS), *args],
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"oumi-flows {' '.join(args)} exited {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout


@pytest.fixture(scope="session")
def cold_stack(
    tmp_path_factory: pytest.TempPathFactory, prepared: PreparedEngine
) -> Iterator[Stack]:
    """The session's engine from its first use to the end; its worker may still be loading Oumi."""
    home = tmp_path_factory.mktemp("stack") / "home with space"
    env = {**os.environ, "OUMI_FLOWS_HOME": str(home), "OUMI_FLOWS_LOCAL_SLOTS": "2"}
    env |= WORKER_SECRET
    settings = Settings(home=home, local_slots=2, engine_timeout_seconds=180)
    prepared.copy_to(home)
    engine = Engine(settings, environ=env)
    try:
        yield Stack(env=env, connection=engine.ensure(), engine=engine)
    finally:
        engine.down()
    assert groups_left(settings.local_dir) == []


@pytest.fixture(scope="session")
def stack(cold_stack: Stack) -> Stack:
    """The session's engine, up and warm."""
    cold_stack.engine.up(wait_for_worker=True)
    return cold_stack
