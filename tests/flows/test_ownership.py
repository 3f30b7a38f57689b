"""Whether the worker that executes a run still lives."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flows.ownership import Owner


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """A live process of the test's own."""
    wait = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-S", "-c", wait], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_an_owner_is_read_back_from_what_is_written_on_a_run() -> None:
    owner = Owner.current()
    assert owner.pid == os.getpid()
    assert Owner.parse(str(owner)) == owner
    assert owner.is_alive() is True


@pytest.mark.parametrize(
    "text",
    [None, "", "1234", "host:1234", "host:12:x", "host:x:12", "host:-1:12", ":", "::", "host:²:1"],
)
def test_what_others_write_on_a_run_is_no_owner(text: str | None) -> None:
    assert Owner.parse(text) is None


def test_a_machine_with_colons_in_its_name_is_read_back() -> None:
    assert Owner.parse("boot@fe80::1:7:99") == Owner("boot@fe80::1", 7, 99)


def test_a_process_of_ours_is_alive_until_it_ends(child: "subprocess.Popen[bytes]") -> None:
    me = Owner.current()
    owner = Owner(me.machine, child.pid, _started(child.pid))
    assert owner.is_alive() is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.is_alive() is False  # a zombie does nothing any more
    child.wait()
    assert owner.is_alive() is False


def _started(pid: int) -> int:
    from flows import ownership

    started = ownership._start_time(pid)
    assert started is not None
    return started


def test_a_process_that_reuses_the_pid_is_another() -> None:
    me = Owner.current()
    assert me._replace(started=me.started + 1).is_alive() is False


def test_a_process_of_an_earlier_boot_is_dead() -> None:
    me = Owner.current()
    _, _, host = me.machine.rpartition("@")
    assert me._replace(machine=f"another-boot@{host}").is_alive() is False


def test_of_a_process_on_another_machine_nothing_is_known() -> None:
    assert Owner.current()._replace(machine="boot@elsewhere").is_alive() is None
