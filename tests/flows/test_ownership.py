"""Whether the worker that executes a run still lives."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.worker import ownership
from flows.worker.ownership import Owner


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """A live process of the test's own."""
    wait = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-S", "-c", wait], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
def me(tmp_path: Path) -> Owner:
    """This process, as the worker of a home of the test's own."""
    return Owner.current(tmp_path)


def test_an_owner_is_read_back_from_what_is_written_on_a_run(me: Owner) -> None:
    assert me.pid == os.getpid()
    assert Owner.parse(str(me)) == me
    assert me.is_alive(me) is True


@pytest.mark.parametrize(
    "text",
    [None, "", "1234", "host:1234", "host:12:x", "host:x:12", "host:-1:12", ":", "::", "host:²:1"],
)
def test_what_others_write_on_a_run_is_no_owner(text: str | None) -> None:
    assert Owner.parse(text) is None


def test_a_machine_with_colons_in_its_name_is_read_back() -> None:
    assert Owner.parse("boot@fe80::1:7:99") == Owner("boot@fe80::1", 7, 99)


def test_a_process_of_ours_is_alive_until_it_ends(
    child: "subprocess.Popen[bytes]", me: Owner
) -> None:
    owner = Owner(me.machine, child.pid, _started(child.pid))
    assert owner.is_alive(me) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.is_alive(me) is False  # a zombie does nothing any more
    child.wait()
    assert owner.is_alive(me) is False


def _started(pid: int) -> int:
    started = ownership._start_time(pid)
    assert started is not None
    return started


def test_a_process_that_reuses_the_pid_is_another(me: Owner) -> None:
    assert me._replace(started=me.started + 1).is_alive(me) is False


def test_a_process_of_an_earlier_boot_is_dead(me: Owner) -> None:
    _, _, machine = me.machine.partition("@")
    assert me._replace(machine=f"another-boot@{machine}").is_alive(me) is False


def test_a_process_of_another_boot_may_be_that_of_a_cloned_machine(tmp_path: Path) -> None:
    me = Owner.current(tmp_path, worker="host-a")
    assert Owner.parse(str(me)) == me
    _, _, machine = me.machine.partition("@")
    rebooted = me._replace(machine=f"another-boot@{machine}")
    assert rebooted.is_alive(me) is False
    clone = rebooted._replace(worker="host-b")
    assert clone.is_alive(me) is None
    assert clone.has_ids_of(me)
    # A process of this boot is known, whatever the name of its worker.
    assert me._replace(worker="host-b").is_alive(me) is True


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are of Linux")
def test_a_container_is_another_boot_of_the_same_machine(me: Owner, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from flows.worker.ownership import Owner;"
        "print(Owner.current(pathlib.Path(sys.argv[1])))"
    )
    inside = subprocess.run(
        ["unshare", "--pid", "--fork", sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if inside.returncode:
        pytest.skip(f"unshare: {inside.stderr}")
    other = Owner.parse(inside.stdout.strip())
    assert other is not None
    assert other.has_ids_of(me)
    assert other.machine != me.machine


def test_of_a_process_on_another_machine_nothing_is_known(me: Owner, tmp_path: Path) -> None:
    elsewhere = Owner.current(tmp_path / "elsewhere")
    assert elsewhere.pid == me.pid
    assert elsewhere.is_alive(me) is None


def test_a_machine_that_changes_its_name_is_the_same(
    me: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "another-name")
    now = Owner.current(tmp_path)
    assert now == me
    assert me.is_alive(now) is True
    _, _, machine = me.machine.partition("@")
    assert me._replace(machine=f"another-boot@{machine}").is_alive(now) is False


def test_a_machine_that_shares_the_home_folder_is_another(me: Owner, tmp_path: Path) -> None:
    system = tmp_path / "system"
    system.write_text("0123456789abcdef0123456789abcdef\n")
    assert Owner.current(tmp_path, system_file=system).is_alive(me) is None
    # And a system without a number of its own, as in a container, is known by the folder's.
    none = tmp_path / "none"
    container = Owner.current(tmp_path, system_file=none)
    assert container.is_alive(Owner.current(tmp_path, system_file=none)) is True


def test_an_owner_that_an_earlier_version_wrote_is_known_by_its_machines_name(me: Owner) -> None:
    boot, _, _ = me.machine.partition("@")
    named = me._replace(machine=f"{boot}@{socket.gethostname()}")
    assert named.is_alive(me) is True
    assert named._replace(started=me.started + 1).is_alive(me) is False
    assert named._replace(machine=f"other-boot@{socket.gethostname()}").is_alive(me) is False
    assert named._replace(machine=f"{boot}@elsewhere").is_alive(me) is None


def test_processes_that_start_together_agree_on_their_machine(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        owners = set(pool.map(Owner.current, [tmp_path / "home"] * 64))
    assert len(owners) == 1
    (file,) = (tmp_path / "home").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_number_that_was_cut_short_is_created_again(me: Owner, tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text(me.machine.partition("@")[2][:16])
    other = Owner.current(tmp_path)
    assert other.machine != me.machine
    assert Owner.current(tmp_path) == other
