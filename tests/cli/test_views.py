"""What a person reads of a job."""

from datetime import UTC, datetime

import pytest

from flows.core.models import GpuUsage, JobStatus, Usage
from flows.core.states import Health, JobState
from mcp_server.cli.output import Output
from mcp_server.cli.views import show_status

STATUS = JobStatus(
    summary="demo is running",
    job_id="7c459f95-9c55-451d-aabe-02d71035a5be",
    name="demo",
    state=JobState.RUNNING,
    is_done=False,
    reachable=True,
    observed_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def test_health_and_use_of_the_machine_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    gpus = [GpuUsage(utilization_percent=93.4), GpuUsage()]
    usage = Usage(ram_peak_bytes=1.25e9, cpu_seconds=30.4, gpus=gpus)
    show_status(STATUS.model_copy(update={"health": Health.BAD, "usage": usage}), Output())
    lines = capsys.readouterr().out.splitlines()
    assert "  health       bad" in lines
    assert "  used         1.2 GB of memory at most, 30 s of processor time, GPU 0 at 93 %" in lines


def test_what_is_not_known_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(STATUS, Output())
    shown = capsys.readouterr().out
    assert "health" not in shown
    assert "used" not in shown
