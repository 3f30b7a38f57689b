"""Oumi's SkyPilot clouds over an API server in memory; `make test-sky` has a real one."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from flows.core.errors import (
    ClusterNotFound,
    ClusterUnreachable,
    InvalidConfig,
    JobNotFound,
    LaunchCancelled,
    LaunchFailed,
    StillLaunching,
)
from flows.core.models import JobHandle
from flows.core.names import launch_log
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.launcher.port import LauncherState
from flows.launcher.sky.backend import SkyBackend
from flows.launcher.sky.node import ENTER
from flows.launcher.sky.values import STATE_OF_SKY, SkyClusterState
from tests.launcher.contract.subjects import new_key
from tests.launcher.fake_sky import JOB_FINISHED, FakeSky, lines
from tests.support.waiting import eventually

CLUSTER = "c1"


@pytest.fixture
def sky() -> FakeSky:
    return FakeSky()


@pytest.fixture
def backend(sky: FakeSky, tmp_path: Path) -> SkyBackend:
    return SkyBackend("gcp", Settings(home=tmp_path), server=sky)


def config(**fields: object) -> str:
    return yaml.safe_dump({"name": "theirs", "resources": {"cloud": "gcp"}, "run": "x", **fields})


def launch(backend: SkyBackend, key: str, **fields: object) -> JobHandle:
    return backend.launch(config(**fields), cluster_name=CLUSTER, key=key)


def test_a_job_is_named_by_its_key_on_its_cluster(backend: SkyBackend, sky: FakeSky) -> None:
    key = new_key()
    handle = launch(backend, key)
    assert handle.launcher_job_id == "1"
    assert [job.name for job in sky.jobs[CLUSTER]] == [key]
    seen = backend.observe_job(handle)
    assert seen is not None
    assert (seen.name, backend.observe(CLUSTER)["1"].name) == (key, key)


def test_a_key_that_was_launched_is_not_launched_again(backend: SkyBackend, sky: FakeSky) -> None:
    key = new_key()
    first = launch(backend, key)
    sky.set_status(CLUSTER, "1", "SUCCEEDED")
    assert launch(backend, key) == first
    assert len(sky.jobs[CLUSTER]) == 1


def test_a_key_is_not_launched_again_by_a_server_that_has_restarted(
    backend: SkyBackend, sky: FakeSky
) -> None:
    key = new_key()
    first = launch(backend, key)
    sky.forget_requests()
    assert backend.find(CLUSTER, key) == first
    assert launch(backend, key) == first
    assert len(sky.jobs[CLUSTER]) == 1


def test_launches_of_one_key_at_once_are_one_launch(backend: SkyBackend, sky: FakeSky) -> None:
    key = new_key()
    with ThreadPoolExecutor(4) as pool:
        handles = list(pool.map(launch, [backend] * 4, [key] * 4))
    assert len(set(handles)) == len(sky.jobs[CLUSTER]) == 1


async def test_a_launch_whose_client_died_is_taken_up(backend: SkyBackend, sky: FakeSky) -> None:
    key = new_key()
    sky.remember("launch", CLUSTER, task_name=key, status="RUNNING")
    sky.up(CLUSTER, SkyClusterState.INIT)
    with pytest.raises(StillLaunching, match="still launching"):
        backend.find(CLUSTER, key)
    assert launch(backend, key).launcher_job_id == "1"
    assert "launch" not in sky.asked
    assert backend.find(CLUSTER, key) == launch(backend, key)


def test_a_submission_whose_answer_was_lost_is_taken_up(backend: SkyBackend, sky: FakeSky) -> None:
    sky.drops_answers = True
    assert launch(backend, new_key()).launcher_job_id == "1"
    assert len(sky.jobs[CLUSTER]) == 1


def launch_despite_a_kill(backend: SkyBackend, sky: FakeSky, key: str) -> None:
    """The server is killed while it launches, and its process continues unobserved."""
    sky.dies_at_launch = True
    with pytest.raises(ClusterUnreachable, match="restarted"):
        launch(backend, key)


def statuses(sky: FakeSky) -> list[str]:
    return [job.status for job in sky.jobs[CLUSTER]]


def test_a_server_killed_while_it_launches_leaves_one_job_of_two(
    backend: SkyBackend, sky: FakeSky
) -> None:
    key = new_key()
    launch_despite_a_kill(backend, sky, key)
    sky.up(CLUSTER, SkyClusterState.INIT)
    # The one that waits for the cluster's lock comes second.
    request_id = sky.remember("launch", CLUSTER, task_name=key, status="RUNNING")
    assert sky.orphan() == "1"
    assert sky.finish(request_id) == "2"
    assert launch(backend, key).launcher_job_id == "1"
    assert statuses(sky) == ["RUNNING", "CANCELLED"]
    assert backend.find(CLUSTER, key) == launch(backend, key)


def test_a_job_of_a_forgotten_launch_that_turns_up_later_is_cancelled(
    backend: SkyBackend, sky: FakeSky
) -> None:
    key = new_key()
    launch_despite_a_kill(backend, sky, key)
    handle = launch(backend, key)
    assert sky.orphan(status="INIT") == "2"
    backend.observe(CLUSTER)
    sky.set_status(CLUSTER, "2", "PENDING")
    seen = backend.observe_job(handle)
    assert seen is not None
    assert seen.state is LauncherState.RUNNING
    assert statuses(sky) == ["RUNNING", "CANCELLED"]


def test_a_forgotten_launch_that_died_half_way_does_not_count(
    backend: SkyBackend, sky: FakeSky
) -> None:
    key = new_key()
    launch_despite_a_kill(backend, sky, key)
    assert sky.orphan(status="INIT") == "1"
    sky.finish(sky.remember("launch", CLUSTER, task_name=key, status="RUNNING"))
    with pytest.raises(StillLaunching, match="still submitting"):
        launch(backend, key)
    assert statuses(sky) == ["INIT", "RUNNING"]
    sky.set_status(CLUSTER, "1", "FAILED_DRIVER")
    assert launch(backend, key).launcher_job_id == "2"
    assert statuses(sky) == ["FAILED_DRIVER", "RUNNING"]


def test_jobs_of_others_may_have_the_same_name(backend: SkyBackend, sky: FakeSky) -> None:
    for _ in range(2):
        sky.finish(sky.remember("launch", CLUSTER, task_name="train", status="RUNNING"))
    backend.observe(CLUSTER)
    launch(backend, new_key())
    assert statuses(sky) == ["RUNNING"] * 3


def test_a_launch_that_somebody_cancelled_is_not_repeated(
    backend: SkyBackend, sky: FakeSky
) -> None:
    key = new_key()
    sky.remember("launch", CLUSTER, task_name=key, status="CANCELLED")
    assert backend.find(CLUSTER, key) is None
    with pytest.raises(LaunchCancelled, match="taking its cluster down"):
        launch(backend, key)
    assert sky.known == {}


def test_launches_of_others_on_the_cluster_are_not_mistaken_for_it(
    backend: SkyBackend, sky: FakeSky
) -> None:
    other = launch(backend, new_key())
    key = new_key()
    assert backend.find(CLUSTER, key) is None
    assert launch(backend, key) != other


def test_a_launch_that_failed_says_why_and_can_be_repeated(
    backend: SkyBackend, sky: FakeSky
) -> None:
    key = new_key()
    sky.refusal = RuntimeError("\x1b[33mno H100 anywhere\x1b[0m\nand more")
    with pytest.raises(LaunchFailed, match=r"on c1: no H100 anywhere\. .*launch\.log"):
        launch(backend, key)
    assert backend.find(CLUSTER, key) is None
    sky.refusal = None
    assert launch(backend, key).launcher_job_id == "1"


def test_a_cluster_that_is_up_runs_a_job_without_setup_as_it_is(
    backend: SkyBackend, sky: FakeSky
) -> None:
    launch(backend, new_key())
    launch(backend, new_key())
    launch(backend, new_key(), setup="pip install x")
    assert [verb for verb in sky.asked if verb in ("launch", "exec")] == [
        "launch",
        "exec",
        "launch",
    ]


@pytest.mark.parametrize(("minutes", "expected"), [(None, 60), (5, 5)])
def test_a_cluster_stops_itself_when_it_is_idle(
    backend: SkyBackend, sky: FakeSky, minutes: int | None, expected: int
) -> None:
    backend.launch(config(), cluster_name=CLUSTER, key=new_key(), autostop_minutes=minutes)
    assert sky.autostops == {CLUSTER: expected}


def test_autostop_is_set_on_a_cluster_that_is_up_when_it_is_asked_for(
    backend: SkyBackend, sky: FakeSky
) -> None:
    launch(backend, new_key())
    backend.launch(config(), cluster_name=CLUSTER, key=new_key(), autostop_minutes=5)
    assert sky.autostops == {CLUSTER: 5}


def test_autostop_is_refused_where_clusters_cannot_stop(backend: SkyBackend, sky: FakeSky) -> None:
    sky.stops_clusters = False
    with pytest.raises(InvalidConfig, match="gcp cannot stop clusters"):
        backend.launch(config(), cluster_name=CLUSTER, key=new_key(), autostop_minutes=5)
    launch(backend, new_key())
    assert sky.autostops == {CLUSTER: None}


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ("INIT", LauncherState.PENDING, None),
        ("SETTING_UP", LauncherState.RUNNING, None),
        ("SUCCEEDED", LauncherState.SUCCEEDED, TerminationReason.COMPLETED),
        ("FAILED", LauncherState.FAILED, TerminationReason.NONZERO_EXIT),
        ("FAILED_SETUP", LauncherState.FAILED, TerminationReason.SETUP_FAILED),
        ("FAILED_DRIVER", LauncherState.FAILED, TerminationReason.OUT_OF_MEMORY),
        ("CANCELLED", LauncherState.CANCELLED, TerminationReason.USER_CANCELLED),
    ],
)
def test_a_job_is_seen_as_its_cluster_has_it(
    backend: SkyBackend,
    sky: FakeSky,
    status: str,
    state: LauncherState,
    reason: TerminationReason | None,
) -> None:
    handle = launch(backend, new_key())
    sky.set_status(CLUSTER, "1", status)
    listed = backend.observe(CLUSTER)["1"]
    single = backend.observe_job(handle)
    assert single is not None
    assert (listed.state, listed.reason) == (single.state, single.reason) == (state, reason)


def test_looking_at_a_cluster_is_one_call(backend: SkyBackend, sky: FakeSky) -> None:
    launch(backend, new_key())
    sky.asked.clear()
    backend.observe(CLUSTER)
    assert sky.asked == ["queue"]


def test_a_job_that_was_never_started_may_be_launched_again(
    backend: SkyBackend, sky: FakeSky
) -> None:
    handle = launch(backend, new_key())
    sky.jobs[CLUSTER][0] = sky.jobs[CLUSTER][0].model_copy(
        update={"status": "FAILED_DRIVER", "started": False}
    )
    seen = backend.observe_job(handle)
    assert seen is not None
    assert seen.reason is TerminationReason.LAUNCH_FAILED


@pytest.mark.parametrize("state", [SkyClusterState.INIT, SkyClusterState.UP])
def test_a_cluster_that_does_not_tell_says_nothing_about_its_jobs(
    backend: SkyBackend, sky: FakeSky, state: SkyClusterState
) -> None:
    handle = launch(backend, new_key())
    sky.ssh_error = RuntimeError("ssh: connection refused")
    sky.up(CLUSTER, state)
    for look in (lambda: backend.observe(CLUSTER), lambda: backend.observe_job(handle)):
        with pytest.raises(ClusterUnreachable, match="connection refused"):
            look()
    assert "refresh" in sky.asked


def test_a_cluster_that_is_being_launched_is_not_absent(backend: SkyBackend, sky: FakeSky) -> None:
    sky.up(CLUSTER, SkyClusterState.INIT)
    with pytest.raises(ClusterUnreachable, match="not up"):
        backend.observe(CLUSTER)


def test_a_job_whose_cluster_was_taken_away_was_preempted(
    backend: SkyBackend, sky: FakeSky
) -> None:
    handle = launch(backend, new_key())
    sky.gone(CLUSTER)
    assert backend.observe(CLUSTER) == {}
    seen = backend.observe_job(handle)
    assert seen is not None
    assert (seen.state, seen.reason) == (LauncherState.FAILED, TerminationReason.PREEMPTED)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("All nodes terminated, cleaning up the cluster.", TerminationReason.PREEMPTED),
        ("All nodes up; SkyPilot runtime healthy.", TerminationReason.CANCELLED_EXTERNALLY),
    ],
)
def test_how_a_job_ended_with_its_cluster_is_known_when_its_launch_is_forgotten(
    backend: SkyBackend, sky: FakeSky, event: str, reason: TerminationReason
) -> None:
    handle = launch(backend, new_key())
    sky.forget_requests()
    sky.taken_away(CLUSTER)
    sky.events[CLUSTER] = event
    seen = backend.observe_job(handle)
    assert seen is not None
    assert seen.reason is reason


def test_a_job_is_unknown_on_a_cluster_that_never_was_and_on_one_that_lives(
    backend: SkyBackend,
) -> None:
    handle = launch(backend, new_key())
    assert backend.observe_job(handle.model_copy(update={"launcher_job_id": "7"})) is None
    assert backend.observe_job(handle.model_copy(update={"cluster_name": "never"})) is None


def test_a_spot_cluster_that_the_cloud_stopped_was_preempted_and_one_of_a_user_was_not(
    backend: SkyBackend, sky: FakeSky
) -> None:
    handle = launch(backend, new_key())
    sky.forget_requests()
    sky.up(CLUSTER, SkyClusterState.STOPPED)
    for event, reason in (
        ("All nodes stopped, cleaning up the cluster.", TerminationReason.PREEMPTED),
        ("Cluster was stopped by user.", TerminationReason.CANCELLED_EXTERNALLY),
    ):
        sky.events[CLUSTER] = event
        seen = backend.observe_job(handle)
        assert seen is not None
        assert seen.reason is reason


@pytest.mark.parametrize("verb", ["down", "stop"])
def test_a_job_whose_cluster_somebody_ended_was_cancelled(
    backend: SkyBackend, sky: FakeSky, verb: str
) -> None:
    handle = launch(backend, new_key())
    sky.remember(verb, CLUSTER)
    sky.gone(CLUSTER)
    seen = backend.observe_job(handle)
    assert seen is not None
    assert seen.reason is TerminationReason.CANCELLED_EXTERNALLY


def test_a_job_whose_cluster_stopped_itself_unseen_is_lost(
    backend: SkyBackend, sky: FakeSky
) -> None:
    handle = launch(backend, new_key())
    stopped = {"state": SkyClusterState.STOPPED, "autostop": 5}
    sky.known[CLUSTER] = sky.known[CLUSTER].model_copy(update=stopped)
    seen = backend.observe_job(handle)
    assert seen is not None
    assert seen.reason is TerminationReason.LOST
    assert "5 idle minutes" in seen.message


def test_a_job_is_cancelled_once(backend: SkyBackend, sky: FakeSky) -> None:
    handle = launch(backend, new_key())
    backend.cancel(handle, force=False)
    backend.cancel(handle, force=True)
    assert sky.asked.count("cancel") == 1
    assert sky.jobs[CLUSTER][0].status == "CANCELLED"


def test_a_job_that_is_being_submitted_is_not_called_cancelled(
    backend: SkyBackend, sky: FakeSky
) -> None:
    handle = launch(backend, new_key())
    sky.set_status(CLUSTER, "1", "INIT")
    with pytest.raises(ClusterUnreachable, match="still submitting job 1 of c1"):
        backend.cancel(handle, force=False)
    sky.set_status(CLUSTER, "1", "PENDING")
    backend.cancel(handle, force=False)
    assert statuses(sky) == ["CANCELLED"]


def test_what_is_not_there_cannot_be_cancelled(backend: SkyBackend) -> None:
    handle = launch(backend, new_key())
    with pytest.raises(JobNotFound):
        backend.cancel(handle.model_copy(update={"launcher_job_id": "7"}), force=False)
    with pytest.raises(ClusterNotFound):
        backend.cancel(handle.model_copy(update={"cluster_name": "c2"}), force=False)


def test_a_server_that_cannot_be_asked_is_unreachable(backend: SkyBackend, sky: FakeSky) -> None:
    handle = launch(backend, new_key())
    sky.unreachable = "down for repair"
    for call in (
        lambda: backend.find(CLUSTER, "k"),
        lambda: backend.observe(CLUSTER),
        lambda: backend.observe_job(handle),
        lambda: backend.cancel(handle, force=False),
        lambda: launch(backend, new_key()),
    ):
        with pytest.raises(ClusterUnreachable, match="repair"):
            call()


async def test_a_log_is_kept_here_and_read_by_offset(
    backend: SkyBackend, sky: FakeSky, tmp_path: Path
) -> None:
    handle = launch(backend, new_key())

    def whole() -> bytes | None:
        text = backend.read_log(handle, offset=0, limit=100)
        return text if text.endswith(b"2\n") else None

    assert await eventually(whole) == b"line 0\nline 1\nline 2\n"
    assert backend.read_log(handle, offset=7, limit=6) == b"line 1"
    # A process that starts over finds what is there, and adds nothing twice.
    again = SkyBackend("gcp", Settings(home=tmp_path), server=sky)
    assert again.read_log(handle, offset=0, limit=100) == b"line 0\nline 1\nline 2\n"


async def read_to_the_end(backend: SkyBackend, handle: JobHandle) -> bytes:
    """Read all of the log of a job that has ended."""
    text = b""

    def at_end() -> bool:
        nonlocal text
        try:
            chunk = backend.read_log(handle, offset=len(text), limit=7)
        except ClusterUnreachable:
            return False
        text += chunk
        return not chunk

    await eventually(at_end)
    return text


async def test_a_log_whose_stream_broke_off_is_read_again_to_its_end(
    backend: SkyBackend, sky: FakeSky
) -> None:
    handle = launch(backend, new_key())
    sky.streams = [
        [
            "INFO: Waiting 1s for the logs to be written...\n",
            *lines(2),
            "client_loop: send disconnect: Broken pipe\n",
        ],
        [*lines(1)],
        [*lines(3), "ERROR: it failed\n", JOB_FINISHED],
    ]
    sky.set_status(CLUSTER, "1", "FAILED")
    backend.observe(CLUSTER)
    expected = b"line 0\nline 1\nline 2\nERROR: it failed\n"
    assert await read_to_the_end(backend, handle) == expected
    assert sky.asked.count("log") == 3
    backend.read_log(handle, offset=len(expected), limit=1)
    assert sky.asked.count("log") == 3


def test_the_end_of_a_log_that_cannot_be_had_is_not_called_its_end(
    backend: SkyBackend, sky: FakeSky
) -> None:
    handle = launch(backend, new_key())
    sky.streams = [lines(1)]
    sky.set_status(CLUSTER, "1", "SUCCEEDED")
    backend.observe(CLUSTER)
    assert backend.read_log(handle, offset=0, limit=100) == b"line 0\n"
    with pytest.raises(ClusterUnreachable, match="rest of the log of job 1 of c1"):
        backend.read_log(handle, offset=7, limit=100)


async def test_a_job_that_wrote_no_log_has_an_empty_one(backend: SkyBackend, sky: FakeSky) -> None:
    handle = launch(backend, new_key())
    sky.streams = [["\x1b[31mERROR: Logs for job 1 (status: CANCELLED) does not exist.\x1b[0m\n"]]
    sky.set_status(CLUSTER, "1", "CANCELLED")
    backend.observe(CLUSTER)
    assert await read_to_the_end(backend, handle) == b""


async def test_what_a_line_without_an_end_says_is_kept_before_skypilots_last_word(
    backend: SkyBackend, sky: FakeSky
) -> None:
    handle = launch(backend, new_key())
    sky.streams = [[lines(1)[0].rstrip("\n") + JOB_FINISHED]]
    sky.set_status(CLUSTER, "1", "SUCCEEDED")
    backend.observe(CLUSTER)
    assert await read_to_the_end(backend, handle) == b"line 0"


async def test_a_cluster_made_anew_gives_its_ids_to_other_logs(
    backend: SkyBackend, sky: FakeSky
) -> None:
    first = launch(backend, new_key())
    sky.set_status(CLUSTER, "1", "SUCCEEDED")
    backend.observe(CLUSTER)
    assert await read_to_the_end(backend, first) == b"line 0\nline 1\nline 2\n"
    sky.taken_away(CLUSTER)
    sky.jobs.clear()
    sky.forget_requests()
    sky.streams = [[*lines(1), JOB_FINISHED]]
    second = launch(backend, new_key())
    assert second == first
    sky.set_status(CLUSTER, "1", "SUCCEEDED")
    backend.observe(CLUSTER)
    assert await read_to_the_end(backend, second) == b"line 0\n"


def test_every_status_of_skypilot_has_a_state() -> None:
    from sky.skylet.job_lib import JobStatus
    from sky.utils.status_lib import ClusterStatus

    assert set(STATE_OF_SKY) == {status.value for status in JobStatus}
    assert {value for value, state in STATE_OF_SKY.items() if state.is_terminal} == {
        status.value for status in JobStatus if status.is_terminal()
    }
    assert set(SkyClusterState) == {status.value for status in ClusterStatus}


def test_the_log_of_a_launch_is_where_readers_look_for_it(
    backend: SkyBackend, tmp_path: Path
) -> None:
    key = new_key()
    launch(backend, key)
    assert "Launching on GCP" in launch_log(tmp_path, CLUSTER, key).read_text()


def test_the_files_of_a_job_are_reached_by_the_name_of_its_cluster(
    backend: SkyBackend, sky: FakeSky
) -> None:
    handle = launch(backend, new_key())
    files = backend.files(handle, "key")
    assert (files.node.address, sky.asked[-1]) == (CLUSTER, "ssh")
    assert "ControlPath=none" in files.node.ssh
    config = files.node.ssh[files.node.ssh.index("-F") + 1]
    assert config.endswith(f".sky/generated/ssh/{CLUSTER}")
    assert f"{Path.home()}/.sky/generated/ssh-keys/{CLUSTER}.key" in files.node.ssh
    assert "sky_workdir" in files.enter


@pytest.mark.parametrize("on_slurm", [True, False])
def test_the_working_folder_of_a_cluster_on_slurm_is_in_its_own_home(
    tmp_path: Path, on_slurm: bool
) -> None:
    # As SkyPilot's template writes it (skypilot 0.12, templates/slurm-ray.yml.j2).
    (tmp_path / ".sky_ssh_rc").write_text(
        "CLUSTER_DIR=~/.sky_clusters/$SKY_CLUSTER_NAME\n"
        'if [ -d "$CLUSTER_DIR" ]; then cd "$CLUSTER_DIR"; export HOME=$(pwd); fi\n'
    )
    home = tmp_path / ".sky_clusters" / "c1-0123" if on_slurm else tmp_path
    (home / "sky_workdir").mkdir(parents=True)
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    if on_slurm:
        environ["SKY_CLUSTER_NAME"] = "c1-0123"
    script = f'{ENTER}\nprintf "%s %s" "$PWD" "$HOME"'
    done = subprocess.run(["bash", "-c", script], env=environ, check=True, capture_output=True)
    assert done.stdout.decode() == f"{home / 'sky_workdir'} {home}"


@pytest.mark.parametrize("end", ["gone", "stopped"])
def test_the_files_of_a_cluster_that_is_not_up_are_gone(
    backend: SkyBackend, sky: FakeSky, end: str
) -> None:
    handle = launch(backend, new_key())
    if end == "gone":
        sky.gone(CLUSTER)
    else:
        sky.up(CLUSTER, SkyClusterState.STOPPED)
    with pytest.raises(ClusterNotFound, match="gone or stopped"):
        backend.files(handle, "key")
