"""A launch in a process of its own, which can be killed. Forked from one that has loaded Oumi."""

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess

from flows.core.settings import Settings
from flows.launcher.oumi_launcher import OumiLauncher
from tests.launcher.contract.subjects import Subject, new_key


class LaunchProcesses:
    """Makes launching processes; they have this process's environment."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["oumi.launcher", "tests.support.fake_cloud", "tests.launcher.contract.launch_process"]
        )

    def start(self, subject: Subject, key: str, run: str) -> ForkServerProcess:
        """Start launching a job; returns at once."""
        config = subject.config(run, key=key)
        process = self._context.Process(
            target=_launch,
            args=(dict(os.environ), config, subject.cloud, subject.cluster, key),
            daemon=True,
        )
        process.start()
        return process

    def seconds(self, subject: Subject) -> float:
        """How long an undisturbed launch takes; the shorter of two."""
        return min(self._seconds(subject), self._seconds(subject))

    def _seconds(self, subject: Subject) -> float:
        started = time.monotonic()
        process = self.start(subject, new_key(), subject.exits(0))
        process.join(120)
        assert process.exitcode == 0
        return time.monotonic() - started


@contextmanager
def launch_processes() -> Generator[LaunchProcesses]:
    """Open while launches may be started."""
    yield LaunchProcesses()
    # No public way to end it before its parent does (Python 3.11).
    vars(forkserver)["_forkserver"]._stop()


def _launch(env: dict[str, str], config: str, cloud: str, cluster: str, key: str) -> None:
    from tests.support import fake_cloud

    os.environ.update(env)
    sys.path[:0] = filter(None, [env.get("FAKE_MODAL")])
    name = env.get(fake_cloud.NAME_ENV)
    with fake_cloud.registered(name) if name else nullcontext():
        launch = OumiLauncher(Settings()).launch(config, cloud=cloud, cluster_name=cluster, key=key)
        asyncio.run(launch)  # pyright: ignore[reportArgumentType]
