"""A kill counts as a lack of memory only where the kernel says so."""

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.core.states import TerminationReason
from flows.launcher.local.control_group import own_group
from flows.launcher.local.memory_shortage import MemoryShortage
from tests.local_cloud.jobs import CLUSTER, Jobs
from tests.local_cloud.test_crashes import let_go, start_launcher
from tests.support.waiting import eventually_sync

TOO_MUCH = f"{sys.executable} -c 'bytearray(2**30)'"


class Kernel:
    """The kernel's counts of one group and of the machine, in files, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.group = folder / "group"
        self.group.mkdir()
        self.machine = folder / "vmstat"
        self.now = 0.0
        self.count(0)

    def count(self, machine: int, *, group: int | None = None) -> None:
        self.machine.write_text(f"nr_free_pages 7\noom_kill {machine}\n")
        if group is not None:
            (self.group / "memory.events").write_text(f"oom 1\noom_kill {group}\n")

    def shortage(self) -> MemoryShortage:
        return MemoryShortage(self.group, shared=[self.machine], clock=lambda: self.now)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_a_kill_without_any_count_of_the_kernels_is_a_persons(kernel: Kernel) -> None:
    shortage = kernel.shortage()
    assert not shortage.explains_a_kill()
    assert not shortage.hit_the_job()


def test_a_count_in_the_jobs_group_is_the_jobs_whenever_it_rose(kernel: Kernel) -> None:
    kernel.count(0, group=0)
    shortage = kernel.shortage()
    kernel.count(1, group=1)
    for kernel.now in (10.0, 1000.0, 2000.0):
        shortage.look()
    assert shortage.hit_the_job()
    assert shortage.explains_a_kill()


def test_what_others_lost_says_nothing_of_a_job_whose_own_group_counts(kernel: Kernel) -> None:
    kernel.count(0, group=0)
    shortage = kernel.shortage()
    kernel.count(1)
    assert not shortage.explains_a_kill()


def test_a_count_of_the_machine_that_rose_just_now_explains_a_kill(kernel: Kernel) -> None:
    kernel.count(3)
    shortage = kernel.shortage()
    for kernel.now in (12.0, 24.0, 25.0):
        shortage.look()
    kernel.count(4)
    assert shortage.explains_a_kill()
    assert not shortage.hit_the_job()


def test_a_count_of_the_machine_that_rose_long_ago_explains_nothing(kernel: Kernel) -> None:
    shortage = kernel.shortage()
    kernel.count(1)
    for kernel.now in (12.0, 24.0, 36.0):
        shortage.look()
    assert not shortage.explains_a_kill()


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="needs extended attributes")
def test_what_systemd_ended_under_memory_pressure_counts(kernel: Kernel) -> None:
    shortage = kernel.shortage()
    try:
        os.setxattr(kernel.group, "user.oomd_kill", b"1")
    except OSError:
        pytest.skip("this file system keeps no such attributes")
    assert shortage.hit_the_job()


@pytest.fixture
def narrow_group() -> Iterator[Path]:
    """A memory group of version 1 with room for one interpreter, not for what it asks for."""
    parent = own_group("memory")
    if parent is None or not os.access(parent, os.W_OK):
        pytest.skip("this process may make no memory group of version 1")
    group = parent / f"oumi-flows-tests-{uuid.uuid4().hex}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("this process may make no memory group of version 1")
    (group / "memory.limit_in_bytes").write_text(str(200 * 2**20))
    yield group
    eventually_sync(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_a_job_that_the_kernel_ends_for_lack_of_memory_reads_so(
    jobs: Jobs, narrow_group: Path
) -> None:
    with start_launcher(jobs, "key", TOO_MUCH) as launcher:
        (narrow_group / "cgroup.procs").write_text(str(launcher.pid))
        let_go(launcher)
        job = jobs.store.get(CLUSTER, launcher.communicate()[0].strip() or "key")
    assert job is not None
    ended = jobs.ended(job)
    assert (ended.reason, ended.exit_code) == (TerminationReason.OUT_OF_MEMORY, 137)
