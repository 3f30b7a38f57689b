import asyncio
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flows.core.findings import Gpu
from flows.launcher.bounded import in_time
from flows.launcher.local.gpus import read_gpus
from flows.launcher.oumi.machine import Machine
from tests.support.fake_nvml import FakeGpu, FakeNvml

H200 = FakeGpu("GPU-aaaa", total=143771 * 2**20, free=143000 * 2**20)
T4 = FakeGpu("GPU-bbbb", "Tesla T4", 15360 * 2**20, 15000 * 2**20, [7, 5])


@pytest.fixture(autouse=True)
def all_gpus_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def machine(*gpus: FakeGpu) -> Machine:
    return Machine(nvml=FakeNvml(*gpus))


def test_gpus_are_described_with_memory_and_capability() -> None:
    seen = machine(H200, T4).hardware()
    assert seen.gpus == [
        Gpu(name="NVIDIA H200", memory_gb=140.4, free_memory_gb=139.6, compute_capability="9.0"),
        Gpu(name="Tesla T4", memory_gb=15.0, free_memory_gb=14.6, compute_capability="7.5"),
    ]
    assert (seen.accelerator_type, seen.accelerator_count) == ("cuda", 2)
    assert seen.driver_version == "570.86.10"
    assert seen.packages["oumi"] == "0.9"


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("1", ["Tesla T4"]),
        ("GPU-aaaa", ["NVIDIA H200"]),
        ("GPU-a", ["NVIDIA H200"]),
        ("", []),
        ("-1", []),
        ("1,0", ["Tesla T4", "NVIDIA H200"]),
        ("0,7,1", ["NVIDIA H200"]),
        ("0,0", ["NVIDIA H200"]),
    ],
)
def test_only_the_gpus_that_a_job_here_would_see_count(
    monkeypatch: pytest.MonkeyPatch, chosen: str, names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    seen = machine(H200, T4)
    assert [gpu.name for gpu in seen.hardware().gpus] == names
    assert seen.gpu_count() == len(names)


def test_a_gpu_without_memory_of_its_own_counts() -> None:
    seen = machine(FakeGpu("GPU-c", "NVIDIA GB10", None, 0, [12, 1])).hardware()
    assert seen.gpus == [Gpu(name="NVIDIA GB10", memory_gb=None, compute_capability="12.1")]
    assert (seen.accelerator_type, seen.accelerator_count) == ("cuda", 1)


def test_a_name_that_is_not_utf_8_hides_no_gpu() -> None:
    seen = machine(replace(T4, is_unreadable=True)).hardware()
    assert [(gpu.name, gpu.memory_gb) for gpu in seen.gpus] == [("GPU", 15.0)]


def test_the_instances_of_a_divided_gpu_count_instead_of_it() -> None:
    gb = 2**30
    parts = [FakeGpu(f"MIG-{n}", "NVIDIA A100 MIG 1g.10gb", 10 * gb, 9 * gb, None) for n in "ab"]
    seen = machine(FakeGpu("GPU-d", "NVIDIA A100", 80 * gb, 80 * gb, [8, 0], parts=parts), T4)
    assert [(gpu.name, gpu.memory_gb, gpu.compute_capability) for gpu in seen.hardware().gpus] == [
        ("NVIDIA A100 MIG 1g.10gb", 10.0, "8.0"),
        ("NVIDIA A100 MIG 1g.10gb", 10.0, "8.0"),
        ("Tesla T4", 15.0, "7.5"),
    ]
    devices = read_gpus(FakeNvml(FakeGpu("GPU-d", parts=parts))).devices
    assert [(one.name, one.is_mig) for one in devices] == [("MIG-a", True), ("MIG-b", True)]


def test_a_driver_that_does_not_work_is_no_gpu() -> None:
    seen = Machine(nvml=FakeNvml(H200, works=False)).hardware()
    assert (seen.accelerator_type, seen.accelerator_count, seen.gpus) == ("none", 0, [])


def test_the_machine_is_looked_at_again_after_half_a_minute() -> None:
    now = 0.0
    nvml = FakeNvml(H200, T4)
    machine = Machine(clock=lambda: now, nvml=nvml)
    assert len(machine.hardware().gpus) == 2
    nvml.gpus.clear()
    now = 29.0
    assert len(machine.hardware().gpus) == 2
    now = 31.0
    assert len(machine.hardware().gpus) == 0


def test_free_space_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    machine = Machine()
    there = machine.free_disk_gb(tmp_path)
    assert there is not None
    assert machine.free_disk_gb(tmp_path / "not" / "yet") == pytest.approx(there, rel=0.1)


async def test_a_call_that_hangs_is_not_waited_for() -> None:
    release = threading.Event()
    before = time.monotonic()
    assert await in_time(release.wait, timeout_seconds=0.1) is None
    assert time.monotonic() - before < 2
    release.set()
    await asyncio.sleep(0)


async def test_a_call_that_fails_in_time_fails_here() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await in_time(fail, timeout_seconds=5)
    assert await in_time(lambda: 7, timeout_seconds=5) == 7


@pytest.mark.parametrize(
    ("text", "build"),
    [("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", "cuda"),
     ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4.1'\n", "hip"),
     ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", "cpu"),
     ("cuda = '11.8'\n", "cuda"), ("", "")],
)  # fmt: skip
def test_the_build_of_torch_is_read_from_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, build: str
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('never imported')")
    (tmp_path / "torch" / "version.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert Machine().torch_build() == build
