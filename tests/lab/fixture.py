"""The lab as a fixture of the test session."""

from collections.abc import Iterator

import pytest

from tests.lab.slurm_lab import CannotRun, SlurmLab


@pytest.fixture(scope="session")
def slurm_lab() -> Iterator[SlurmLab]:
    """A Slurm cluster that this process, and what it starts from now on, can reach."""
    try:
        lab = SlurmLab()
    except CannotRun as why:
        pytest.skip(f"No Slurm cluster on this machine: {why}")
    lab.up()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lab.env.items():
            patch.setenv(name, value)
        try:
            yield lab
        finally:
            lab.down()
