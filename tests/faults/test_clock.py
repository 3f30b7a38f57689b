"""The machine's clock is set while jobs run."""

from pathlib import Path

import psutil
import pytest

from flows.ownership import Owner


@pytest.mark.skipif(not psutil.LINUX, reason="the kernel's boot time follows the clock on Linux")
def test_a_worker_is_still_known_to_live_after_the_clock_was_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    me = Owner.current(tmp_path)
    owner = Owner.parse(str(me))
    assert owner is not None
    boot_time = psutil.boot_time()
    # Of its value depends every start time that psutil tells.
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot_time + 1)
    assert owner.is_alive(me)
