import asyncio
import sys
import threading
import time
from pathlib import Path

import pytest

from flows.core.findings import Gpu
from flows.launcher.bounded import in_time
from flows.launcher.oumi.machine import Machine

TWO = """\
0, GPU-aaaa, NVIDIA H200, 143771, 143000, 9.0, 570.86.10
1, GPU-bbbb, Tesla T4, 15360, 15000, 7.5, 570.86.10
"""


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tool


def says(tool: Path, text: str, code: int = 0) -> None:
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {code}\n")
    tool.chmod(0o755)


def test_gpus_are_told_with_memory_and_capability(nvidia_smi: Path) -> None:
    says(nvidia_smi, TWO)
    seen = Machine().hardware()
    assert seen.gpus == [
        Gpu(name="NVIDIA H200", memory_gb=140.4, free_memory_gb=139.6, compute_capability="9.0"),
        Gpu(name="Tesla T4", memory_gb=15.0, free_memory_gb=14.6, compute_capability="7.5"),
    ]
    assert (seen.accelerator_type, seen.accelerator_count) == ("cuda", 2)
    assert seen.driver_version == "570.86.10"
    assert seen.packages["oumi"] == "0.9"


@pytest.mark.parametrize(
    ("chosen", "names"),
    [("1", ["Tesla T4"]), ("GPU-aaaa", ["NVIDIA H200"]), ("", []), ("-1", []), ("1,0", None)],
)
def test_only_the_gpus_that_a_job_here_would_see_count(
    nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, names: list[str] | None
) -> None:
    says(nvidia_smi, TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    seen = [gpu.name for gpu in Machine().hardware().gpus]
    assert seen == (["NVIDIA H200", "Tesla T4"] if names is None else names)


@pytest.mark.parametrize(
    ("text", "code"),
    [("NVIDIA-SMI has failed because it could not talk to the driver.\n", 9), ("\n", 0),
     ("0, GPU-a, GB10, [N/A], [N/A], 12.1, 580\n", 0)],
)  # fmt: skip
def test_a_driver_that_does_not_work_is_no_gpu(nvidia_smi: Path, text: str, code: int) -> None:
    says(nvidia_smi, text, code)
    seen = Machine().hardware()
    assert (seen.accelerator_count, seen.gpus) == (0, [])


def test_the_machine_is_looked_at_again_after_half_a_minute(nvidia_smi: Path) -> None:
    now = 0.0
    machine = Machine(clock=lambda: now)
    says(nvidia_smi, TWO)
    assert len(machine.hardware().gpus) == 2
    says(nvidia_smi, "")
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
