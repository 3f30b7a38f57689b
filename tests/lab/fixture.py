"""The labs as fixtures of the test session."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.lab.sky_lab import SkyLab
from tests.lab.slurm_lab import CannotRun, SlurmLab


@pytest.fixture(scope="session")
def slurm_lab() -> Iterator[SlurmLab]:
    """A Slurm cluster that this process, and what it starts from now on, can reach."""
    yield from _running(SlurmLab)


@pytest.fixture(scope="session")
def sky_lab() -> Iterator[SkyLab]:
    """A SkyPilot API server whose cloud is a Slurm cluster of its own."""
    yield from _running(SkyLab)


L = TypeVar("L", bound=SlurmLab)


def _running(make: Callable[[], L]) -> Iterator[L]:
    try:
        lab = make()
    except CannotRun as why:
        pytest.skip(f"No lab on this machine: {why}")
    lab.up()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lab.env.items():
            patch.setenv(name, value)
        try:
            yield lab
        finally:
            lab.down()
