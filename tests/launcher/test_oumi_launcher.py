"""What is particular to the launcher over Oumi."""

import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from flows.core.errors import ClusterUnreachable, InvalidArgument, InvalidConfig, LaunchFailed
from flows.core.settings import Settings
from flows.core.states import JobState, TerminationReason
from flows.launcher.cloud_backend import CloudBackend
from flows.launcher.local.backend import observation_of
from flows.launcher.local.job import LocalJob
from flows.launcher.local.job_folder import JobFolder
from flows.launcher.oumi import backend as oumi_backend
from flows.launcher.oumi_launcher import OumiLauncher
from flows.launcher.port import LauncherState
from tests.launcher.contract.subjects import Subject, new_key, on_local
from tests.support.no_sky import no_api_server
from tests.support.waiting import eventually

CLOUD = CLUSTER = "local"


@pytest.fixture
async def subject(oumi_launcher: OumiLauncher, folder: Path) -> AsyncGenerator[Subject]:
    subject = on_local(oumi_launcher, folder)
    yield subject
    await subject.end_all()


def test_every_state_of_oumi_is_one_of_ours_and_both_agree_on_its_end(
    oumi_launcher: OumiLauncher,
) -> None:
    from oumi.core.launcher import JobState as OumiState

    assert {state.value for state in OumiState} == set(LauncherState)
    terminal = {OumiState.SUCCEEDED.value, OumiState.FAILED.value, OumiState.CANCELLED.value}
    assert {state for state in LauncherState if state.is_terminal} == terminal


def test_every_job_state_has_one_of_oumis(oumi_launcher: OumiLauncher) -> None:
    from oumi.core.launcher import JobState as OumiState

    from flows.launcher.local.oumi_cloud import OUMI_STATE

    assert set(OUMI_STATE) == set(JobState)
    live = {OumiState.PENDING, OumiState.RUNNING}
    assert {state for state in OUMI_STATE if OUMI_STATE[state] in live} == {
        state for state in JobState if not state.is_terminal
    }


@pytest.mark.parametrize("reason", TerminationReason)
def test_every_reason_of_a_local_job_has_words(reason: TerminationReason) -> None:
    seen = observation_of(
        LocalJob(
            job_id="job",
            name="job",
            cluster=CLUSTER,
            state=reason.job_state,
            phase="run",
            submitted_at=1.0,
            started_at=2.0,
            reason=reason,
            exit_code=7,
            ticket=1,
            log_path=Path("/log"),
            job_dir=Path("/"),
        )
    )
    assert (seen.reason, seen.log_path) == (reason, "/log")
    assert seen.state.is_terminal
    assert seen.message.endswith(".")


def test_the_status_of_other_clouds_gives_no_reason(oumi_launcher: OumiLauncher) -> None:
    from oumi.core.launcher import JobState as OumiState
    from oumi.core.launcher import JobStatus

    seen = oumi_backend.observation(
        JobStatus(
            name="job",
            id="7",
            status="COMPLETED",
            cluster="sky",
            metadata='{"reason": "completed"}',
            done=True,
            state=OumiState.SUCCEEDED,
        )
    )
    assert (seen.state, seen.reason, seen.message, seen.log_path) == (
        LauncherState.SUCCEEDED,
        None,
        "COMPLETED",
        None,
    )


async def test_a_job_has_its_log_in_a_file(subject: Subject) -> None:
    handle = await subject.launch("echo hello")
    ended = await subject.reaching(handle, LauncherState.SUCCEEDED)
    log = Path(ended.log_path or "")
    assert "hello" in log.read_text()  # noqa: ASYNC240


@pytest.mark.parametrize(
    "text",
    ["num_nodes: 2\nrun: 'true'\nresources: {cloud: local}", "runn: x", "run: [", "3", ""],
    ids=["impossible here", "unknown field", "no YAML", "no mapping", "empty"],
)
async def test_a_job_config_that_cannot_be_launched_is_invalid(subject: Subject, text: str) -> None:
    with pytest.raises(InvalidConfig):
        await subject.launcher.launch(text, cloud=CLOUD, cluster_name=CLUSTER, key=new_key())


async def test_a_launch_that_the_machine_refuses_has_failed(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oumi import launcher as oumi

    def up(*_: object) -> None:
        raise RuntimeError("no capacity\nin this region")

    monkeypatch.setattr(oumi, "up", up)
    with pytest.raises(LaunchFailed, match="no capacity"):
        await subject.launch(subject.holds)


async def test_an_oumi_that_does_not_load_launches_nothing_and_tells_nothing(
    tmp_path: Path,
) -> None:
    def broken(*_: object) -> CloudBackend:
        raise ImportError("No module named torch")

    subject = on_local(OumiLauncher(Settings(), make_backend=broken), tmp_path)
    with pytest.raises(LaunchFailed, match="No module named torch"):
        await subject.launch(subject.holds)
    with pytest.raises(ClusterUnreachable, match="No module named torch"):
        await subject.launcher.observe(CLOUD, CLUSTER)


async def test_a_launch_and_a_call_that_take_too_long_are_given_up(
    oumi_launcher: OumiLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from flows.launcher.local.oumi_cloud import LocalCluster

    release = threading.Event()
    monkeypatch.setattr(LocalCluster, "list_jobs", lambda _: release.wait())
    settings = Settings(launcher_timeout_seconds=0.2)
    subject = on_local(OumiLauncher(settings), tmp_path)
    try:
        with pytest.raises(ClusterUnreachable, match=r"within 0\.2 s"):
            await subject.launcher.observe(CLOUD, CLUSTER)
    finally:
        release.set()


async def test_whatever_a_cluster_raises_says_nothing_of_its_jobs(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.launcher.local.oumi_cloud import LocalCluster

    await subject.reaching(await subject.launch("true"), LauncherState.SUCCEEDED)

    def list_jobs(_: object) -> None:
        raise ValueError("ssh: connection reset\nby peer")

    monkeypatch.setattr(LocalCluster, "list_jobs", list_jobs)
    with pytest.raises(ClusterUnreachable, match="ssh: connection reset"):
        await subject.launcher.observe(CLOUD, CLUSTER)


async def test_a_local_job_that_lost_its_supervisor_while_it_waited_runs_all_the_same(
    oumi_launcher: OumiLauncher, subject: Subject
) -> None:
    slots = [await subject.launch("sleep 600") for _ in range(2)]
    waiting = await subject.launch("exit 0")
    job_dir = Settings().local_dir / CLUSTER / "jobs" / waiting.launcher_job_id
    supervisor = JobFolder(job_dir).supervisor_pid()
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    await eventually(lambda: JobFolder(job_dir).supervisor_pid() is None)
    assert waiting.launcher_job_id not in await oumi_launcher.observe(CLOUD, CLUSTER)
    seen = await oumi_launcher.observe_job(waiting)
    assert seen is not None
    assert seen.state is LauncherState.PENDING
    for slot in slots:
        await oumi_launcher.cancel(slot, force=True)
    seen = await subject.reaching(waiting, LauncherState.SUCCEEDED)
    assert seen.reason is TerminationReason.COMPLETED


async def test_the_clusters_of_every_cloud_are_listed_and_what_cannot_be_asked_is_said(
    subject: Subject, oumi_launcher: OumiLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUMI_SLURM_CONNECTIONS", raising=False)
    handle = await subject.launch(subject.holds)
    with no_api_server():
        listed = await oumi_launcher.clusters("")
    (local,) = [cluster for cluster in listed.clusters if cluster.cloud == CLOUD]
    assert (local.cluster_name, local.live_jobs) == (CLUSTER, [handle.launcher_job_id])
    assert "sky api start" in listed.unavailable["SkyPilot"]
    assert [cluster.cloud for cluster in (await oumi_launcher.clusters(CLOUD)).clusters] == [CLOUD]


async def test_a_local_cluster_that_is_stopped_has_no_live_jobs(
    subject: Subject, oumi_launcher: OumiLauncher
) -> None:
    handles = [await subject.launch(subject.holds) for _ in range(3)]
    await oumi_launcher.stop_cluster(CLOUD, CLUSTER)
    for handle in handles:
        assert (await subject.seen(handle)).state is LauncherState.CANCELLED


async def test_a_local_cluster_that_was_taken_down_is_not_listed(
    subject: Subject, oumi_launcher: OumiLauncher
) -> None:
    handle = await subject.launch(subject.holds)
    await oumi_launcher.down_cluster(CLOUD, CLUSTER)
    assert (await oumi_launcher.clusters(CLOUD)).clusters == []
    assert (await subject.seen(handle)).state is LauncherState.CANCELLED


async def test_a_cluster_that_outlives_oumi_is_not_stopped(oumi_launcher: OumiLauncher) -> None:
    for call in (oumi_launcher.stop_cluster, oumi_launcher.down_cluster):
        with pytest.raises(InvalidArgument, match="cancel_job"):
            await call("polaris", "debug.me")


async def test_a_cloud_whose_clusters_stay_refuses_to_have_them_stop(
    oumi_launcher: OumiLauncher,
) -> None:
    for cloud in ("local", "slurm", "polaris"):
        with pytest.raises(InvalidConfig, match=f"clusters on {cloud} do not stop themselves"):
            await oumi_launcher.launch(
                "run: x", cloud=cloud, cluster_name="c", key=new_key(), autostop_minutes=5
            )
