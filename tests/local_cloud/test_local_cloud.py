"""The durable local cloud as `oumi.launcher` drives it."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oumi import launcher as oumi_launcher
from oumi.core.configs import JobConfig
from oumi.core.configs.job_config import JobResources, StorageMount
from oumi.core.launcher import JobState, JobStatus
from oumi.launcher import Launcher

from flows.core import states
from flows.core.errors import InvalidArgument, InvalidConfig, JobNotFound
from flows.core.names import JOB_KEY_ENV
from flows.launcher.local import oumi_cloud as local_cloud
from flows.launcher.local.oumi_cloud import LocalCluster
from tests.support.control_groups import can_make_groups
from tests.support.waiting import eventually_sync


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    """Oumi's launcher with our cloud, and a home of the test's own."""
    monkeypatch.setenv("OUMI_FLOWS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OUMI_FLOWS_LOCAL_SLOTS", "2")
    local_cloud.register()
    launcher = Launcher()
    yield launcher
    cloud = launcher.get_cloud("local")
    for cluster in cloud.list_clusters():
        cluster.down()
    eventually_sync(lambda: not cloud.list_clusters())


def job_config(run: str = "true", **fields: Any) -> JobConfig:
    return JobConfig(run=run, resources=JobResources(cloud="local"), **fields)


def ended(launcher: Launcher, status: JobStatus) -> JobStatus:
    cluster = launcher.get_cloud("local").get_cluster(status.cluster)
    assert cluster is not None
    eventually_sync(lambda: cluster.get_job(status.id).done)
    return cluster.get_job(status.id)


def log(status: JobStatus) -> str:
    return Path(json.loads(status.metadata)["log_path"]).read_text()


def test_registering_again_changes_nothing_and_oumis_launcher_uses_it() -> None:
    oumi_launcher.get_cloud("local")
    local_cloud.register()
    first = oumi_launcher.get_cloud("local")
    local_cloud.register()
    assert oumi_launcher.get_cloud("local") is first
    assert isinstance(first, local_cloud.LocalCloud)
    assert oumi_launcher.which_clouds().count("local") == 1


def test_a_job_goes_up_runs_and_is_reported_whole(launcher: Launcher) -> None:
    cluster, status = launcher.up(job_config("echo hello", name="My job"), None)
    assert (cluster.name(), status.cluster, status.name) == ("local", "local", "My job")
    assert status.id.startswith("my-job-")
    assert (status.state, status.done) in {(JobState.PENDING, False), (JobState.RUNNING, False)}
    status = ended(launcher, status)
    assert (status.status, status.state, status.done) == ("SUCCEEDED", JobState.SUCCEEDED, True)
    assert status.submit_time is not None
    assert status.start_at is not None
    assert status.end_at is not None
    assert status.submit_time <= status.start_at <= status.end_at
    folder = Path(os.environ["OUMI_FLOWS_HOME"]) / "local" / "local" / "jobs" / status.id
    assert json.loads(status.metadata) == {
        "reason": "completed",
        "message": "exit code 0 in the run part",
        "exit_code": 0,
        "signal": None,
        "phase": "run",
        "log_path": str(folder / "log.txt"),
        "job_dir": str(folder),
        "held_by": "control_group" if can_make_groups() else "process_tree",
    }
    assert launcher.status(cloud="local", cluster="local", id=status.id)["local"] == [status]


@pytest.mark.parametrize(
    ("run", "reason", "message"),
    [
        ("exit 3", "nonzero_exit", "exit code 3 in the run part"),
        ("kill -9 $$", "killed", "ended by signal 9 in the run part"),
        (
            "kill -9 $PPID $$",
            "lost",
            "its processes are gone, and how they ended is unknown",
        ),
    ],
)
def test_why_a_job_ended_is_told_in_words(
    launcher: Launcher, run: str, reason: str, message: str
) -> None:
    status = ended(launcher, launcher.up(job_config(run), None)[1])
    facts = json.loads(status.metadata)
    assert (status.state, facts["reason"], facts["message"]) == (
        JobState.FAILED,
        reason,
        message,
    )
    assert status.status == ("LOST" if reason == "lost" else "FAILED")


def test_a_waiting_job_reads_queued(launcher: Launcher) -> None:
    jobs = [launcher.up(job_config("sleep 300"), None)[1] for _ in range(3)]
    cluster = launcher.get_cloud("local").get_cluster("local")
    assert isinstance(cluster, LocalCluster)
    eventually_sync(lambda: [job.status for job in cluster.get_jobs()].count("RUNNING") == 2)
    waiting = cluster.get_job(jobs[2].id)
    assert waiting is not None
    assert (waiting.status, waiting.state, waiting.done) == ("QUEUED", JobState.PENDING, False)


def test_a_cancel_through_the_launcher_is_confirmed(launcher: Launcher) -> None:
    _, status = launcher.up(job_config("sleep 300"), "mine")
    status = launcher.cancel(status.id, "local", "mine")
    assert (status.status, status.state, status.done) == ("CANCELLED", JobState.CANCELLED, True)


def test_the_grace_of_a_cancel_can_be_given(launcher: Launcher, tmp_path: Path) -> None:
    script = "trap '' TERM; touch ready; while :; do sleep 0.05; done"
    cluster, status = launcher.up(job_config(script, working_dir=str(tmp_path)), None)
    eventually_sync((tmp_path / "ready").exists)
    assert isinstance(cluster, LocalCluster)
    assert cluster.cancel_job(status.id).status == "CANCELLING"
    assert cluster.cancel_job(status.id, grace_seconds=0.0).status == "CANCELLED"


def test_a_key_launches_one_job_whatever_the_call(launcher: Launcher, tmp_path: Path) -> None:
    keyed = job_config("echo ran >> count", envs={JOB_KEY_ENV: "key-1"}, working_dir=str(tmp_path))
    cluster, first = launcher.up(keyed, None)
    assert first.id == "key-1"
    assert cluster.run_job(keyed).id == "key-1"
    assert launcher.run(keyed, "local").id == "key-1"
    ended(launcher, first)
    assert launcher.up(keyed, None)[1].done
    assert (tmp_path / "count").read_text() == "ran\n"


def test_stop_and_down_end_every_job_and_delete_none(launcher: Launcher) -> None:
    cloud = launcher.get_cloud("local")
    jobs = [launcher.up(job_config("sleep 300"), "mine")[1] for _ in range(3)]
    other = launcher.up(job_config("sleep 300"), "other")[1]
    launcher.stop("local", "mine")
    assert [ended(launcher, job).state for job in jobs] == [JobState.CANCELLED] * 3
    assert [cluster.name() for cluster in cloud.list_clusters()] == ["mine", "other"]
    launcher.down("local", "mine")
    assert [cluster.name() for cluster in cloud.list_clusters()] == ["other"]
    mine = cloud.get_cluster("mine")
    assert mine is not None
    assert [job.id for job in mine.get_jobs()] == [job.id for job in jobs]
    assert not cloud.get_cluster("other").get_job(other.id).done  # type: ignore[union-attr]
    launcher.up(job_config(), "mine")
    assert [cluster.name() for cluster in cloud.list_clusters()] == ["mine", "other"]


def test_the_log_of_the_job_submitted_last_is_the_default(launcher: Launcher) -> None:
    cluster, _ = launcher.up(job_config("echo first"), None)
    launcher.up(job_config("echo second"), None)
    assert cluster.get_logs_stream("local").read() == "second\n"
    with pytest.raises(JobNotFound, match="unknown"):
        cluster.get_logs_stream("local", "unknown")


def test_what_is_not_known_is_none(launcher: Launcher) -> None:
    cloud = launcher.get_cloud("local")
    assert cloud.get_cluster("nowhere") is None
    assert cloud.list_clusters() == []
    cluster, _ = launcher.up(job_config(), None)
    assert cluster.get_job("unknown") is None
    with pytest.raises(JobNotFound, match="unknown"):
        cluster.cancel_job("unknown")


def test_a_job_starts_in_its_working_directory_or_the_current_one(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = [
        log(ended(launcher, launcher.up(job_config("pwd", working_dir=given), None)[1])).strip()
        for given in (None, "..", "~/here")
    ]
    assert seen == [str(tmp_path / "here"), str(tmp_path), str(tmp_path / "here")]


def test_a_jobs_environment_is_ours_less_what_is_private_and_more_what_it_asks(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = (
        "PREFECT_API_AUTH_STRING",
        "PREFECT_SERVER_API_AUTH_STRING",
        "PREFECT__FLOW_RUN_ID",
        "OUMI_FLOWS_HTTP_TOKEN",
    )
    for name in private:
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("CHANGED", "before")
    _, status = launcher.up(job_config("env -0", envs={"CHANGED": "after\nall", "N": "1"}), None)
    status = ended(launcher, status)
    env = dict(entry.split("=", 1) for entry in log(status).split("\0") if "=" in entry)
    assert not set(private) & set(env)
    assert "hunter2" not in Path(json.loads(status.metadata)["job_dir"], "spec.json").read_text()
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert {
        name: env[name] for name in ("KEPT", "CHANGED", "N", "COLUMNS", "PYTHONUNBUFFERED")
    } == {
        "KEPT": "kept",
        "CHANGED": "after\nall",
        "N": "1",
        "COLUMNS": "400",
        "PYTHONUNBUFFERED": "1",
    }
    assert env[JOB_KEY_ENV] == status.id


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_nodes": 2}, "num_nodes is 2"),
        ({"file_mounts": {"/a": "/b"}}, "file_mounts"),
        ({"storage_mounts": {"/a": StorageMount(source="s3://b", store="s3")}}, "storage_mounts"),
        ({"run": ""}, "run is empty"),
        ({"envs": {"SECRET": "hunter2\0"}}, "'SECRET'"),
    ],
)
def test_what_cannot_work_on_this_machine_is_refused_by_name(
    launcher: Launcher, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidConfig, match=said) as caught:
        launcher.up(job_config(**{"run": "true", **fields}), None)
    assert "hunter2" not in str(caught.value)
    assert launcher.get_cloud("local").list_clusters() == []


def test_a_job_for_another_cloud_or_with_no_script_is_refused(launcher: Launcher) -> None:
    cloud = launcher.get_cloud("local")
    with pytest.raises(InvalidConfig, match="'gcp'"):
        cloud.up_cluster(JobConfig(run="true", resources=JobResources(cloud="gcp")), None)
    with pytest.raises(InvalidConfig, match="run is empty"):
        cloud.up_cluster(JobConfig(resources=JobResources(cloud="local")), None)
    with pytest.raises(InvalidArgument, match=r"\.\./up"):
        cloud.up_cluster(job_config(), "../up")


def test_every_state_of_ours_has_one_of_oumis() -> None:
    table = local_cloud.OUMI_STATE
    assert set(table) == set(states.JobState)
    done = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    assert {state for state in table if table[state] in done} == {
        state for state in states.JobState if state.is_terminal
    }
