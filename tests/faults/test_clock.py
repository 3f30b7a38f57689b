"""The machine's clock is set while jobs run."""

from pathlib import Path

import psutil
import pytest

from flows.worker.ownership import Owner
from mcp_server.engine import Engine
from tests.support.job_driver import job_driver
from tests.support.shifted_clock import ShiftedClock, can_shift_clocks


@pytest.mark.skipif(not psutil.LINUX, reason="the kernel's boot time follows the clock on Linux")
def test_a_worker_is_still_known_to_live_after_the_clock_was_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from psutil import _pslinux

    me = Owner.current(tmp_path)
    owner = Owner.parse(str(me))
    assert owner is not None
    boot_time = psutil.boot_time()
    # Of its value depends every start time that psutil tells.
    monkeypatch.setattr(_pslinux, "boot_time", lambda: boot_time + 1)
    assert owner.is_alive(me)


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.skipif(not can_shift_clocks, reason="needs a C compiler on Linux")
async def test_a_clock_set_forward_ends_no_job_hides_none_and_stretches_no_duration(
    engine: Engine, clock: ShiftedClock, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "client"
    folder.mkdir()
    go = folder / "go"
    async with job_driver(engine.connection(), home, folder, {}) as jobs:
        script = f"until [ -e '{go}' ]; do sleep 0.1; done"
        job_id = await jobs.submit(script, timeout_seconds=3600)
        await jobs.reaching(job_id, "running", timeout=120)
        clock.jump(86_400)
        # Its times are ahead of this process's clock, which stays.
        later = await jobs.submit(script, timeout_seconds=3600)
        await jobs.reaching(later, "running", timeout=60)
        listed = (await jobs.call("list_jobs", status="running"))["jobs"]
        assert {job_id, later} <= {job["job_id"] for job in listed}
        go.touch()
        for ended in (await jobs.ended(job_id), await jobs.ended(later)):
            assert ended["state"] == "succeeded"
            assert 0 < ended["duration_seconds"] < 600


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.skipif(not can_shift_clocks, reason="needs a C compiler on Linux")
async def test_a_retry_does_not_wait_for_a_clock_that_was_set_back(
    engine: Engine, clock: ShiftedClock, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "client"
    folder.mkdir()
    async with job_driver(engine.connection(), home, folder, {}) as jobs:
        script = f"[ -e '{folder}/second' ] && exit 0; touch '{folder}/second'; exit 3"
        job_id = await jobs.submit(script, max_retries=1, retry_on=["nonzero_exit"])
        await jobs.reaching(job_id, "retrying", timeout=120)
        clock.jump(-86_400)
        ended = await jobs.ended(job_id, timeout=90)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
