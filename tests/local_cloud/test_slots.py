"""Slots: so many jobs at once, the others in the order they came."""

import os
import signal

import pytest

from flows.core.errors import InvalidArgument
from flows.core.states import JobState, TerminationReason
from flows.launcher.local.gpus import GpuDevice, read_gpus
from flows.launcher.local.slots import (
    Unit,
    choose_units,
    devices_of,
    gpus_of_share,
    make_units,
)
from tests.local_cloud.jobs import CLUSTER, Jobs
from tests.support.waiting import eventually_sync

HOLD = "until [ -e go ]; do sleep 0.01; done"


def test_jobs_wait_for_a_free_slot_in_the_order_of_submission(jobs: Jobs) -> None:
    jobs = jobs.changed(slots=1)
    launched = [jobs.launch(f"{HOLD}; echo {name} >> order") for name in "abc"]
    launched.append(jobs.store.launch("other", jobs.request("echo d >> order")))
    jobs.running(launched[0])
    assert [job.state for job in jobs.store.live_jobs()] == [
        JobState.RUNNING,
        JobState.QUEUED,
        JobState.QUEUED,
        JobState.QUEUED,
    ]
    (jobs.working_dir / "go").touch()
    eventually_sync(lambda: not jobs.store.live_jobs(), timeout=5.0)
    assert (jobs.working_dir / "order").read_text() == "a\nb\nc\nd\n"


def test_as_many_jobs_run_at_once_as_there_are_slots(jobs: Jobs) -> None:
    jobs = jobs.changed(slots=2)
    launched = [jobs.launch(HOLD) for _ in range(3)]
    for job in launched[:2]:
        jobs.running(job)
    assert jobs.now(launched[2]).state is JobState.QUEUED
    jobs.store.cancel(CLUSTER, launched[0].job_id)
    jobs.running(launched[2])


def test_a_waiting_job_that_is_cancelled_never_runs(jobs: Jobs) -> None:
    jobs = jobs.changed(slots=1)
    first = jobs.running(jobs.launch("sleep 300"))
    waiting = [jobs.launch("touch ran"), jobs.launch("touch last")]
    cancelled = jobs.store.cancel(CLUSTER, waiting[0].job_id)
    assert (cancelled.state, cancelled.phase, cancelled.started_at) == (
        JobState.CANCELLED,
        "queued",
        None,
    )
    jobs.store.cancel(CLUSTER, first.job_id)
    assert jobs.ended(waiting[1]).reason is TerminationReason.COMPLETED
    assert not (jobs.working_dir / "ran").exists()


def test_a_killed_supervisor_neither_blocks_the_queue_nor_frees_a_slot_in_use(jobs: Jobs) -> None:
    jobs = jobs.changed(slots=1)
    first = jobs.launch("echo $$ > script; exec sleep 300")
    script = jobs.pid_in("script")
    dead = jobs.launch("touch ran", key="dead")
    last = jobs.launch("echo fine")
    jobs.kill_supervisor(dead)
    jobs.kill_supervisor(first)
    assert jobs.now(last).state is JobState.QUEUED
    os.kill(script, signal.SIGKILL)
    assert jobs.ended(last).reason is TerminationReason.COMPLETED


def test_each_slot_has_its_own_gpu(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5f")
    jobs = jobs.changed(env=dict(os.environ), slots=0)
    assert jobs.store.slots == 2
    script = f"echo $CUDA_VISIBLE_DEVICES; {HOLD}"
    launched = [jobs.launch(script), jobs.launch(script)]
    chosen = jobs.launch("echo $CUDA_VISIBLE_DEVICES", sets_devices=True)
    (jobs.working_dir / "go").touch()
    seen = {jobs.ended(job).log_path.read_text() for job in launched}
    assert seen == {"4\n", "GPU-5f\n"}
    assert jobs.ended(chosen).log_path.read_text() == "4,GPU-5f\n"


def units_of(names: list[str], slots: int | None) -> list[Unit]:
    return make_units([GpuDevice(name) for name in names], slots)


@pytest.mark.parametrize(
    ("devices", "slots", "shares"),
    [
        ([], 4, ["", "", "", ""]),
        (["0"], 1, ["0"]),
        (["0", "1"], 1, ["0,1"]),
        (["0", "1"], 2, ["0", "1"]),
        (["0", "1", "2"], 2, ["0,2", "1"]),
        (["0", "1"], 3, ["0", "1", "0"]),
        (["0", "1", "2"], None, ["0", "1", "2"]),
    ],
)
def test_gpus_are_shared_out_evenly(
    devices: list[str], slots: int | None, shares: list[str]
) -> None:
    units = units_of(devices, slots)
    free = {unit.lock for unit in units}
    found: list[str] = []
    while chosen := choose_units(units, free, gpus=0):
        found.append(devices_of(chosen))
        free -= {unit.lock for unit in chosen}
    assert found == shares
    smallest = min(len([name for name in share.split(",") if name]) for share in shares)
    assert smallest == gpus_of_share(len(devices), slots)


def test_a_job_of_several_gpus_gets_whole_ones() -> None:
    units = units_of(["0", "1", "2"], 5)
    everything = {unit.lock for unit in units}
    assert devices_of(choose_units(units, everything, gpus=3)) == "0,1,2"
    held = choose_units(units, everything, gpus=0)  # half of GPU 0
    free = everything - {unit.lock for unit in held}
    assert devices_of(choose_units(units, free, gpus=2)) == "1,2"
    assert choose_units(units, free, gpus=3) == []


@pytest.mark.parametrize(
    ("value", "found"),
    [("", []), ("-1", []), ("0, 2", ["0", "2"]), ("0,-1,2", ["0"]), ("GPU-5f", ["GPU-5f"])],
)
def test_without_a_driver_the_gpus_chosen_for_this_process_count(
    monkeypatch: pytest.MonkeyPatch, value: str, found: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert [device.name for device in read_gpus().devices] == found


def with_gpus(jobs: Jobs, monkeypatch: pytest.MonkeyPatch, names: str) -> Jobs:
    """Jobs of a worker that sees GPUs of these names."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    return Jobs(jobs.root, jobs.working_dir, dict(os.environ), slots=0)


def test_a_job_of_several_gpus_waits_for_them_and_no_smaller_one_passes_it(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = with_gpus(jobs, monkeypatch, "0,1,2,3")
    script = "until [ -e go-{0} ]; do sleep 0.01; done; echo {0} $CUDA_VISIBLE_DEVICES >> order"
    small = jobs.running(jobs.launch(script.format("small")))
    large = jobs.launch(script.format("large"), gpus=4)
    after = [jobs.launch(script.format(name)) for name in ("b", "c")]
    assert [jobs.now(job).state for job in (large, *after)] == [JobState.QUEUED] * 3
    (jobs.working_dir / "go-small").touch()
    jobs.ended(small)
    jobs.running(large)
    assert [jobs.now(job).state for job in after] == [JobState.QUEUED] * 2
    for name in ("large", "b", "c"):
        (jobs.working_dir / f"go-{name}").touch()
    assert jobs.ended(large).reason is TerminationReason.COMPLETED
    for job in after:
        jobs.ended(job)
    order = (jobs.working_dir / "order").read_text().splitlines()
    assert order[:2] == ["small 0", "large 0,1,2,3"]


def test_gpus_are_free_only_when_all_processes_of_their_job_have_ended(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = with_gpus(jobs, monkeypatch, "0,1,2")
    first = jobs.launch("echo $$ > script; exec sleep 300", gpus=2)
    script = jobs.pid_in("script")
    second = jobs.launch("echo $CUDA_VISIBLE_DEVICES", gpus=2)
    jobs.kill_supervisor(first)
    assert jobs.now(second).state is JobState.QUEUED
    os.kill(script, signal.SIGKILL)
    assert jobs.ended(second).log_path.read_text() == "0,1\n"


def test_two_workers_that_see_other_gpus_agree_about_each(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = with_gpus(jobs, monkeypatch, "GPU-a,GPU-b")
    first = one.running(one.launch(HOLD, gpus=2))
    other = with_gpus(jobs, monkeypatch, "GPU-b,GPU-c")
    beside = other.launch("echo $CUDA_VISIBLE_DEVICES")
    assert other.ended(beside).log_path.read_text() == "GPU-c\n"
    waiting = other.launch("echo $CUDA_VISIBLE_DEVICES", gpus=2)
    assert other.now(waiting).state is JobState.QUEUED
    (jobs.working_dir / "go").touch()
    one.ended(first)
    assert other.ended(waiting).reason is TerminationReason.COMPLETED


@pytest.mark.parametrize(("names", "there"), [("0,1", 2), ("", 0)])
def test_more_gpus_than_the_machine_has_are_refused_at_the_launch(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, names: str, there: int
) -> None:
    jobs = with_gpus(jobs, monkeypatch, names)
    with pytest.raises(InvalidArgument, match=f"asks for 3 GPUs, and this machine has {there}"):
        jobs.launch("true", gpus=3)
    assert jobs.store.live_jobs() == []


def test_a_machine_without_gpus_has_one_slot(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert jobs.changed(slots=0).store.slots == 1
