"""What is particular to Slurm, on a real cluster; Oumi's faults each have a case."""

import getpass
import shutil
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path

import pytest
import yaml

from flows.core import names
from flows.core.errors import ClusterUnreachable, InvalidConfig, LaunchFailed
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.launcher.oumi_launcher import OumiLauncher
from flows.launcher.port import LauncherState, Observation
from tests.lab.slurm_lab import SlurmLab
from tests.launcher.contract.subjects import new_key
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster
LONG_NAME = "a long name of a job, with spaces and more than thirty characters"


class Cluster:
    """The lab's cluster, for jobs of one test."""

    def __init__(self, launcher: OumiLauncher, lab: SlurmLab, folder: Path) -> None:
        self.launcher = launcher
        self.lab = lab
        self.folder = folder
        self.handles: list[JobHandle] = []

    async def launch(self, run: str, *, key: str = "", **fields: object) -> JobHandle:
        key = key or new_key()
        config = {
            "name": "a job",
            "resources": {"cloud": "slurm"},
            "working_dir": str(self.folder),
            "envs": {names.JOB_KEY_ENV: key},
            "run": run,
            **fields,
        }
        handle = await self.launcher.launch(
            yaml.safe_dump(config), cloud="slurm", cluster_name=self.lab.cluster, key=key
        )
        self.handles.append(handle)
        return handle

    def submit_by_hand(self, option: str, script: str) -> str:
        """Submit a job of the same account, not through the launcher; its id."""
        return self.lab.slurm(
            *("sbatch", "--parsable", f"--uid={self.lab.user}", f"--chdir={self.lab.home}"),
            *("--output=/dev/null", option, f"--wrap={script}"),
        ).strip()

    async def listed(self) -> dict[str, Observation]:
        return await self.launcher.observe("slurm", self.lab.cluster)

    async def ended(self, handle: JobHandle) -> Observation:
        async def look() -> Observation | None:
            seen = await self.launcher.observe_job(handle)
            assert seen is not None
            return seen if seen.state.is_terminal else None

        return await eventually(look, timeout=30)

    async def output(self, handle: JobHandle) -> str:
        assert (await self.ended(handle)).state is LauncherState.SUCCEEDED
        return (await self.launcher.read_log(handle, offset=0, limit=100_000)).decode()


@pytest.fixture
async def cluster(
    oumi_launcher: OumiLauncher, slurm_lab: SlurmLab, folder: Path
) -> AsyncGenerator[Cluster]:
    cluster = Cluster(oumi_launcher, slurm_lab, folder)
    yield cluster
    for handle in cluster.handles:
        seen = await oumi_launcher.observe_job(handle)
        if seen is not None and not seen.state.is_terminal:
            await oumi_launcher.cancel(handle, force=True)
            await cluster.ended(handle)


@pytest.fixture
def on_login_node(slurm_lab: SlurmLab) -> Generator[Callable[[str, str], None]]:
    """Puts a program before all others in the path of the account on the login node."""
    folder, profile = slurm_lab.home / "bin", slurm_lab.home / ".bash_profile"
    folder.mkdir(mode=0o755)
    profile.write_text(f'echo "Welcome to the lab!"\nPATH={folder}:$PATH\n')

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)

    yield put
    profile.unlink()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


async def test_a_script_that_would_go_on_here_is_refused_and_runs_nowhere(
    cluster: Cluster, tmp_path: Path
) -> None:
    # Oumi runs what follows the line on this machine (oumi 0.9, `SlurmClient.run_commands`).
    trace = tmp_path / "ran"
    key = new_key()
    with pytest.raises(InvalidConfig, match="EOF"):
        await cluster.launch(f"cat <<EOF\nhello\nEOF\ntouch {trace}", key=key)
    assert not trace.exists()
    assert key not in cluster.lab.jobs()


async def test_the_log_is_in_the_home_of_the_account_there(cluster: Cluster) -> None:
    # Oumi looks for it in the home of the account here, and expects its folder to exist
    # (oumi 0.9, `_LOG_DIR` in slurm_client.py).
    handle = await cluster.launch("whoami")
    assert await cluster.output(handle) == f"{cluster.lab.user}\n"
    assert cluster.lab.user != getpass.getuser()
    log = cluster.lab.home / "oumi_slurm_logs" / f"{handle.launcher_job_id}.out"
    assert log.read_text() == f"{cluster.lab.user}\n"


async def test_a_job_that_slurm_has_forgotten_is_known_by_its_accounts(cluster: Cluster) -> None:
    # Oumi: None after five minutes, as for a job that never was (oumi 0.9, `get_job`).
    key = new_key()
    failed = await cluster.launch("exit 3", key=key)
    cancelled = await cluster.launch("sleep 100")
    await cluster.launcher.cancel(cancelled, force=False)
    ends = [await cluster.ended(handle) for handle in (failed, cancelled)]
    cluster.lab.forget_jobs(in_accounts=False)
    assert failed.launcher_job_id not in await cluster.launcher.observe(
        "slurm", cluster.lab.cluster
    )
    for handle, end in zip((failed, cancelled), ends, strict=True):
        seen = await cluster.launcher.observe_job(handle)
        assert seen is not None
        assert (seen.state, seen.reason) == (end.state, end.reason)
    found = await cluster.launcher.find(cloud="slurm", cluster_name=cluster.lab.cluster, key=key)
    assert found == failed


async def test_without_accounts_the_end_of_a_job_is_what_its_script_left_behind(
    cluster: Cluster, on_login_node: Callable[[str, str], None]
) -> None:
    # Oumi lists nothing without sacct (oumi 0.9, `list_jobs`).
    on_login_node("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    good, bad = await cluster.launch("true"), await cluster.launch("exit 3")
    for handle in (good, bad):
        await cluster.ended(handle)
    cluster.lab.forget_jobs(in_accounts=False)
    seen = [await cluster.launcher.observe_job(handle) for handle in (good, bad)]
    assert [(look.state, look.reason) for look in seen if look] == [
        (LauncherState.SUCCEEDED, TerminationReason.COMPLETED),
        (LauncherState.FAILED, TerminationReason.NONZERO_EXIT),
    ]
    unknown = good.model_copy(update={"launcher_job_id": "4000000"})
    assert await cluster.launcher.observe_job(unknown) is None


async def test_a_job_cancelled_on_the_cluster_is_cancelled_in_every_look(cluster: Cluster) -> None:
    # Oumi lists it as pending for ever (oumi 0.9, `_split_status_line`).
    handle = await cluster.launch("sleep 100")
    cluster.lab.slurm("scancel", handle.launcher_job_id)
    assert (await cluster.ended(handle)).state is LauncherState.CANCELLED
    listed = await cluster.listed()
    assert listed[handle.launcher_job_id].state is LauncherState.CANCELLED


async def test_a_dead_host_in_the_list_disturbs_nobody(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Oumi: ClusterUnreachableError even for local jobs (oumi 0.9, `SlurmCloud.__init__`).
    monkeypatch.setenv("OUMI_SLURM_CONNECTIONS", f"absent@127.0.0.2,{cluster.lab.cluster}")
    launcher = OumiLauncher(Settings())
    assert await launcher.observe("local", "local") is not None
    assert await launcher.observe("slurm", cluster.lab.cluster) is not None
    with pytest.raises(ClusterUnreachable, match=r"absent@127\.0\.0\.2"):
        await launcher.observe("slurm", "absent@127.0.0.2")


async def test_a_process_without_the_list_finds_the_jobs_of_a_named_cluster(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Oumi knows no cluster then (oumi 0.9, `SlurmCloud.get_cluster`).
    key = new_key()
    handle = await cluster.launch("true", key=key)
    monkeypatch.delenv("OUMI_SLURM_CONNECTIONS")
    found = await OumiLauncher(Settings()).find(
        cloud="slurm", cluster_name=cluster.lab.cluster, key=key
    )
    assert found == handle


async def test_the_environment_arrives_as_it_was_written(cluster: Cluster) -> None:
    # Oumi exports values unquoted (oumi 0.9, `_create_job_script`).
    value = """it's "$HOME" `id`; echo no\n  two  lines"""
    handle = await cluster.launch('printf "%s\\n" "$VALUE"', envs={"VALUE": value})
    assert await cluster.output(handle) == f"{value}\n"


async def test_a_job_may_have_any_name(cluster: Cluster) -> None:
    # Oumi passes it unquoted and lists the first 30 characters (oumi 0.9, `submit_job`).
    handle = await cluster.launch("true", name=LONG_NAME)
    await cluster.ended(handle)
    shown = cluster.lab.slurm(
        "squeue", "-h", "--states=all", f"--jobs={handle.launcher_job_id}", "-o%k"
    )
    assert shown.strip() == LONG_NAME


@pytest.mark.parametrize("end", ["", "/"])
async def test_a_job_starts_in_what_its_folder_holds_less_what_git_ignores(
    cluster: Cluster, tmp_path: Path, end: str
) -> None:
    # With Oumi the slash decides whether the folder or what is in it is copied, and folders named
    # docs and tests are left out (oumi 0.9, `put_recursive`).
    source = tmp_path / "it's a folder"
    for name in ("train.py", "docs/page", "tests/test", "data/big", "cache/junk"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    (source / ".gitignore").write_text("cache/\n")
    handle = await cluster.launch(
        "find . -type f | sort", working_dir=f"{source}{end}", file_mounts={}
    )
    assert (await cluster.output(handle)).split() == [
        "./.gitignore",
        "./data/big",
        "./docs/page",
        "./oumi_job.sh",
        "./tests/test",
        "./train.py",
    ]


async def test_files_and_folders_are_put_where_the_job_wants_them(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "data set").mkdir()
    (tmp_path / "data set" / "rows").write_text("rows")
    (tmp_path / "token").write_text("token")
    kept = cluster.lab.home / "data" / "theirs"
    kept.parent.mkdir()
    shutil.chown(kept.parent, cluster.lab.user)
    kept.touch()
    handle = await cluster.launch(
        "cat ~/data/rows ~/'new folder/token'",
        file_mounts={
            "~/data": str(tmp_path / "data set"),
            "~/new folder/token": str(tmp_path / "token"),
        },
    )
    assert await cluster.output(handle) == "rowstoken"
    assert kept.exists()


async def test_what_the_account_says_at_login_is_no_part_of_an_answer(
    cluster: Cluster, on_login_node: Callable[[str, str], None]
) -> None:
    on_login_node("unused", "true")
    handle = await cluster.launch("echo ran")
    assert handle.launcher_job_id.isdecimal()
    assert await cluster.output(handle) == "ran\n"


async def test_a_submission_whose_answer_was_lost_is_found_and_not_repeated(
    cluster: Cluster, on_login_node: Callable[[str, str], None]
) -> None:
    on_login_node(
        "sbatch",
        '/usr/bin/sbatch "$@" >/dev/null\n'
        "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1",
    )
    key = new_key()
    with pytest.raises(ClusterUnreachable, match="timed out"):
        await cluster.launch("true", key=key)
    found = await cluster.launcher.find(cloud="slurm", cluster_name=cluster.lab.cluster, key=key)
    assert found is not None
    assert await cluster.launch("true", key=key) == found
    await cluster.ended(found)
    await eventually(lambda: cluster.lab.jobs().count(key) == 1)


async def test_a_refused_submission_has_failed_and_says_why(cluster: Cluster) -> None:
    with pytest.raises(LaunchFailed, match=r"[Ii]nvalid partition"):
        await cluster.launch("#SBATCH --partition=nowhere\ntrue")


async def test_a_controller_that_is_down_tells_nothing_and_takes_nothing(cluster: Cluster) -> None:
    handle = await cluster.launch("sleep 100")
    key = new_key()
    with cluster.lab.without_controller():
        for call in (
            cluster.launcher.observe("slurm", cluster.lab.cluster),
            cluster.launcher.observe_job(handle),
            cluster.launch("true", key=key),
        ):
            with pytest.raises(ClusterUnreachable):
                await call
    seen = await cluster.launcher.observe_job(handle)
    assert seen is not None
    assert not seen.state.is_terminal
    await cluster.ended(await cluster.launch("true", key=key))
    await eventually(lambda: cluster.lab.jobs().count(key) == 1)


async def test_options_in_the_scripts_reach_slurm(cluster: Cluster) -> None:
    handle = await cluster.launch(
        'echo "$SLURM_JOB_NUM_NODES $SLURM_CPUS_PER_TASK $MADE"',
        setup="#SBATCH --time=5\nMADE=here",
        resources={"cloud": "slurm", "cpus": "2", "accelerators": "H100:1"},
    )
    assert await cluster.output(handle) == "1 2 here\n"
    job = cluster.lab.slurm("scontrol", "-o", "show", "job", handle.launcher_job_id)
    assert "TimeLimit=00:05:00" in job
    assert "gres:gpu:H100:1" in job


async def test_a_job_that_only_the_accounts_call_running_is_unknown(
    cluster: Cluster, on_login_node: Callable[[str, str], None]
) -> None:
    on_login_node("sacct", "echo '4000000|RUNNING|None|0:0|oumi-lost-1'")
    lost = JobHandle(cloud="slurm", cluster_name=cluster.lab.cluster, launcher_job_id="4000000")
    assert await cluster.launcher.observe_job(lost) is None


async def test_the_failed_array_of_somebody_else_hides_no_job(cluster: Cluster) -> None:
    handle = await cluster.launch("sleep 100")
    ids = [cluster.submit_by_hand("--array=1-2", "exit 1")]
    ids.append(cluster.submit_by_hand("--job-name=a|b|c|d", "exit 2"))

    async def all_have_failed() -> bool:
        listed = await cluster.listed()
        assert listed[handle.launcher_job_id].state in (
            LauncherState.PENDING,
            LauncherState.RUNNING,
        )
        return sum(job.state is LauncherState.FAILED for job in listed.values()) >= 3 and all(
            listed[job_id].state is LauncherState.FAILED for job_id in ids
        )

    await eventually(all_have_failed, timeout=30)
    listed = await cluster.listed()
    assert [listed[job_id].message for job_id in ids] == [
        "The job exited with code 1.",
        "The job exited with code 2.",
    ]
    for job_id in ids:
        theirs = handle.model_copy(update={"launcher_job_id": job_id})
        single = await cluster.launcher.observe_job(theirs)
        assert single is not None
        assert single.message == listed[job_id].message
    cluster.lab.forget_jobs(in_accounts=False)
    for job_id in ids:
        theirs = handle.model_copy(update={"launcher_job_id": job_id})
        single = await cluster.launcher.observe_job(theirs)
        assert single is not None
        assert single.message == listed[job_id].message


async def test_each_task_of_an_array_is_told_by_its_own_id(cluster: Cluster) -> None:
    handle = await cluster.launch("true")
    array = cluster.submit_by_hand("--array=1-2", 'exit "$((SLURM_ARRAY_TASK_ID - 1))"')

    async def ends() -> dict[str, Observation]:
        listed = await cluster.listed()
        ids = cluster.lab.slurm("squeue", "-h", "--states=all", f"--jobs={array}", "-o%A").split()
        tasks = {job_id: listed[job_id] for job_id in ids if job_id in listed}
        ended = len(tasks) == 2 and all(job.state.is_terminal for job in tasks.values())
        return tasks if ended else {}

    tasks = await eventually(ends, timeout=30)
    assert sorted(job.state for job in tasks.values()) == ["failed", "succeeded"]
    for job_id, listed in tasks.items():
        single = await cluster.launcher.observe_job(
            handle.model_copy(update={"launcher_job_id": job_id})
        )
        assert single is not None
        assert (single.state, single.message) == (listed.state, listed.message)


async def test_a_job_whose_program_is_killed_reads_so_as_on_the_local_cloud(
    cluster: Cluster,
) -> None:
    handle = await cluster.launch("bash -c 'kill -9 $$'")
    ended = await cluster.ended(handle)
    assert (ended.state, ended.reason) == (LauncherState.FAILED, TerminationReason.KILLED)
    assert (await cluster.listed())[handle.launcher_job_id].reason is ended.reason


async def test_options_that_find_the_job_and_its_log_again_are_not_the_scripts_to_set(
    cluster: Cluster,
) -> None:
    key = new_key()
    options = ["--job-name=mine", "--comment=mine", "--output=/dev/null", "--nodes=7"]
    script = [*(f"#SBATCH {option}" for option in options), 'echo "$SLURM_JOB_NAME"']
    handle = await cluster.launch("\n".join(script), key=key)
    assert await cluster.output(handle) == f"{key}\n"
