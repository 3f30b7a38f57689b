"""Where the logs of a job's attempts are, from the one path that Prefect has."""

from pathlib import Path

import pytest

from flows.core import names
from mcp_server.services.jobs.log_files import LogFiles
from tests.mcp_server.runs_stub import run_of

RUN_ID = "7c459f95-9c55-451d-aabe-02d71035a5be"


@pytest.mark.parametrize("shape", ["/data/jobs/{}/log.txt", "/data/logs/cluster/{}.log"])
def test_the_logs_of_all_attempts_follow_from_the_path_of_one(shape: str) -> None:
    path = shape.format(names.launch_key(RUN_ID, 11))
    files = LogFiles.of(run_of(RUN_ID, labels={"oumi.log_path": path}))
    assert files is not None
    assert files.attempt == 11
    assert [files.of_attempt(number) for number in (1, 2, 11)] == [
        Path(shape.format(names.launch_key(RUN_ID, number))) for number in (1, 2, 11)
    ]


def test_a_path_without_a_launch_key_is_the_log_of_the_last_attempt() -> None:
    labels = {"oumi.log_path": "/logs/cluster/3.log", "oumi.attempt": 2}
    files = LogFiles.of(run_of(RUN_ID, labels=labels))
    assert files is not None
    assert files.attempt == 2
    assert files.of_attempt(1) == Path("/logs/cluster/3.log")


def test_a_job_that_has_not_started_has_no_log() -> None:
    assert LogFiles.of(run_of(RUN_ID)) is None
