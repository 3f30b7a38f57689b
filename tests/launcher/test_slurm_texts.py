"""What is said to Slurm and what is read from it, without a cluster."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from flows.core.configs.slurm_checks import check_slurm_job
from flows.core.errors import CloudUnavailable, ClusterNotFound, InvalidConfig
from flows.core.models import Usage
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.launcher.port import LauncherState, UsageSample
from flows.launcher.slurm.backend import SlurmBackend
from flows.launcher.slurm.queries import job_script, list_script, parse_job, parse_list
from flows.launcher.slurm.script import batch_script, sbatch
from flows.launcher.slurm.states import STATE_OF_SLURM
from flows.launcher.slurm.usage import parse_usage

KEY = "oumi-0123456789abcdef0123456789abcdef-1"
# https://slurm.schedmd.com/job_state_codes.html, Slurm 22.05 to 24.11
STATES_OF_THE_MANUAL = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PENDING", "PREEMPTED", "RUNNING", "SUSPENDED", "TIMEOUT", "COMPLETING", "CONFIGURING"),
    *("LAUNCH_FAILED", "POWER_UP_NODE", "RECONFIG_FAIL", "REQUEUED", "REQUEUE_FED"),
    *("REQUEUE_HOLD", "RESIZING", "RESV_DEL_HOLD", "REVOKED", "SIGNALING", "SPECIAL_EXIT"),
    *("STAGE_OUT", "STOPPED", "UPDATE_DB"),
}


def test_every_state_of_slurms_manual_is_one_of_ours() -> None:
    assert set(STATE_OF_SLURM) == STATES_OF_THE_MANUAL
    for state, reason in STATE_OF_SLURM.values():
        assert (reason is None) == (state not in (LauncherState.SUCCEEDED, LauncherState.FAILED))


@pytest.mark.parametrize(
    ("line", "state", "reason"),
    [
        # Oumi's list reads this as PENDING and not done (oumi 0.9, `list_jobs`).
        ("7|CANCELLED by 1001|None|0:0|R", LauncherState.CANCELLED, None),
        ("7|CANCELLED+|None|0:0|R", LauncherState.CANCELLED, None),
        # Oumi reads these as failed (oumi 0.9, `_get_job_state`).
        ("7|SUSPENDED|None|", LauncherState.RUNNING, None),
        ("7|STOPPED|None|", LauncherState.RUNNING, None),
        ("7|PREEMPTED|None|0:15|R", LauncherState.FAILED, TerminationReason.PREEMPTED),
        ("7|NODE_FAIL|None|1:0|R", LauncherState.FAILED, TerminationReason.PREEMPTED),
        ("7|TIMEOUT|TimeLimit|0:0|R", LauncherState.FAILED, TerminationReason.TIMED_OUT),
        ("7|OUT_OF_MEMORY|None|0:125", LauncherState.FAILED, TerminationReason.OUT_OF_MEMORY),
        ("7|FAILED|None|0:9|R", LauncherState.FAILED, TerminationReason.KILLED),
        ("7|FAILED|None|0:15|R", LauncherState.FAILED, TerminationReason.KILLED),
        # What bash ran was killed, and bash says so.
        ("7|FAILED|None|137:0|R", LauncherState.FAILED, TerminationReason.KILLED),
        ("7|FAILED|NonZeroExitCode|3:0|R", LauncherState.FAILED, TerminationReason.NONZERO_EXIT),
        ("7|FAILED|NonZeroExitCode|3:0|S", LauncherState.FAILED, TerminationReason.SETUP_FAILED),
        ("7|FAILED|BadConstraints|1:0|", LauncherState.FAILED, TerminationReason.LAUNCH_FAILED),
        ("7|A_STATE_OF_TOMORROW|None|", LauncherState.PENDING, None),
    ],
)
def test_a_line_of_slurms_is_read_as_what_it_means(
    line: str, state: LauncherState, reason: TerminationReason | None
) -> None:
    seen = parse_job(line)
    assert seen is not None
    assert (seen.state, seen.reason) == (state, reason)


def test_what_a_pending_job_waits_for_is_said() -> None:
    assert parse_list("7|PENDING|Priority|\n")["7"].message == "PENDING (Priority)"


def test_no_line_is_no_job() -> None:
    assert parse_list("") == {}
    assert parse_job("") is None


def test_a_row_that_cannot_be_read_hides_no_other() -> None:
    text = "5|FAILED|None|1:0\n1:0|R\nslurm_load_jobs error\n6|FAILED|x|y\n7|RUNNING|None|\n"
    assert {job: seen.state for job, seen in parse_list(text).items()} == {
        "5": LauncherState.FAILED,
        "7": LauncherState.RUNNING,
    }
    with pytest.raises(ValueError, match="not a job"):
        parse_job("slurm_load_jobs|error|")


ARRAY = """\
JobId=5 ArrayJobId=5 ArrayTaskId=2 JobName=wrap JobState=FAILED ExitCode=1:0 Comment=x
JobId=6 ArrayJobId=5 ArrayTaskId=1 JobName=wrap JobState=FAILED ExitCode=2:0 Comment=x
"""
HETEROGENEOUS = """\
JobId=8 HetJobId=8 HetJobOffset=0 JobName=het JobState=FAILED ExitCode=3:0 Comment=x
JobId=9 HetJobId=8 HetJobOffset=1 JobName=het JobState=FAILED ExitCode=0:0 Comment=x
"""
QUEUE = """\
5|FAILED|NonZeroExitCode|wrap
6|FAILED|NonZeroExitCode|wrap
7|RUNNING|None|oumi-ours-1
8|FAILED|NonZeroExitCode|a|b
9|FAILED|NonZeroExitCode|het
"""


@pytest.fixture
def login_node(tmp_path: Path) -> Path:
    """A home whose Slurm has an array and a heterogeneous job, of which every part failed."""
    programs = {
        "squeue": f"cat <<'END'\n{QUEUE}END",
        "scontrol": f"""\
case ${{@: -1}} in
5|6) cat <<'END'
{ARRAY}END
;;
8|9) cat <<'END'
{HETEROGENEOUS}END
;; esac""",
    }
    (tmp_path / "bin").mkdir()
    for name, script in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def test_failed_parts_of_arrays_and_heterogeneous_jobs_hide_no_job_of_the_list(
    login_node: Path,
) -> None:
    listed = parse_list(ran(list_script(), login_node).stdout)
    assert {job: seen.message for job, seen in listed.items()} == {
        "5": "The job exited with code 1.",
        "6": "The job exited with code 2.",
        "7": "RUNNING",
        "8": "The job exited with code 3.",
        "9": "The job exited with code 0.",
    }


def test_one_part_of_an_array_or_a_heterogeneous_job_is_read_alone(login_node: Path) -> None:
    for job, code in {"5": 1, "6": 2, "8": 3}.items():
        seen = parse_job(ran(job_script(job), login_node).stdout.strip())
        assert seen is not None
        assert seen.message == f"The job exited with code {code}."


@pytest.mark.parametrize("field", ["setup", "run"])
@pytest.mark.parametrize("end", ["EOF", "SCRIPTFILETAG"])
def test_a_line_that_ends_oumis_heredoc_is_refused(field: str, end: str) -> None:
    job = {"run": "true", field: f"cat <<{end} >notes\nhello\n{end}\nrm -rf build"}
    with pytest.raises(InvalidConfig, match=f"{field} has a line that is just {end}"):
        check_slurm_job(job)


def test_such_a_line_is_refused_in_the_environment_too() -> None:
    with pytest.raises(InvalidConfig, match=r"envs\.NOTE"):
        check_slurm_job({"run": "true", "envs": {"NOTE": "a\nEOF\nb"}})


def test_other_heredocs_and_other_mentions_are_fine() -> None:
    check_slurm_job({"run": "cat <<END\n EOF\nEND\necho EOF", "setup": None})


@pytest.mark.parametrize("option", ["#SBATCH --array=1-4", "#SBATCH -a 1-4"])
def test_a_job_array_is_refused(option: str) -> None:
    with pytest.raises(InvalidConfig, match="job array"):
        check_slurm_job({"run": f"{option}\ntrue"})


def test_a_name_that_no_shell_can_set_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=re.escape("'A B'")):
        check_slurm_job({"run": "true", "envs": {"A B": "1"}})


@pytest.mark.parametrize(
    "value", ["it's", 'a "b" c', "$HOME `id` $(id)", "a\nb", "", "ünï", "back\\slash", "*", 7]
)
def test_a_job_sees_its_environment_as_it_was_written(value: object, tmp_path: Path) -> None:
    # Oumi exports values unquoted (oumi 0.9, `_create_job_script` in slurm_cluster.py).
    out = ran(
        batch_script(key=KEY, setup="", run='printf %s "$VALUE"', envs={"VALUE": value}), tmp_path
    )
    assert out.stdout == str(value)


def test_the_phase_and_the_exit_code_are_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "oumi_launcher" / KEY
    folder.mkdir(parents=True)
    assert ran(batch_script(key=KEY, setup="exit 4", run="true", envs={}), tmp_path).returncode == 4
    assert [(folder / name).read_text() for name in ("phase", "exit")] == ["S", "4"]
    assert ran(batch_script(key=KEY, setup="false", run="true", envs={}), tmp_path).returncode == 1
    assert (folder / "phase").read_text() == "S"
    assert ran(batch_script(key=KEY, setup="true", run="exit 3", envs={}), tmp_path).returncode == 3
    assert [(folder / name).read_text() for name in ("phase", "exit")] == ["R", "3"]


def test_a_job_whose_records_cannot_be_written_runs_all_the_same(tmp_path: Path) -> None:
    done = ran(batch_script(key=KEY, setup="", run="echo ran", envs={}), tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("ran\n", "", 0)


def test_the_options_of_setup_and_run_come_first() -> None:
    script = batch_script(
        key=KEY, setup="#SBATCH --qos=low\nmake", run="#!/bin/bash\n#SBATCH -p gpu\ntrain", envs={}
    )
    assert script.splitlines()[:3] == ["#!/bin/bash", "#SBATCH --qos=low", "#SBATCH -p gpu"]
    assert script.count("#SBATCH") == 2


def test_a_job_is_named_by_its_whole_key_and_keeps_its_own_name_as_a_comment() -> None:
    # Oumi names it as the person did, and its list cuts that at 30 characters.
    command = sbatch(key=KEY, name="my job", nodes=2, options={"cpus_per_task": "4"})
    assert {f"--job-name={KEY}", "--comment=my job", "--cpus-per-task=4", "--nodes=2"} <= set(
        command
    )


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> SlurmBackend:
    monkeypatch.delenv("OUMI_SLURM_CONNECTIONS", raising=False)
    return SlurmBackend("slurm", Settings())


def test_a_process_that_knows_no_cluster_says_what_to_set(backend: SlurmBackend) -> None:
    # Oumi: "Cluster not found" (oumi 0.9, `SlurmCloud.get_cluster`).
    with pytest.raises(CloudUnavailable, match="OUMI_SLURM_CONNECTIONS"):
        backend.observe("slurm")


def test_a_name_that_is_no_login_node_is_refused_with_those_there_are(
    backend: SlurmBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUMI_SLURM_CONNECTIONS", "me@one, me@two")
    for name in ("slurm", "gpu-box", "-oProxyCommand=x@y", "me@one two"):
        with pytest.raises(ClusterNotFound, match="me@one, me@two"):
            backend.observe(name)


def ran(script: str, home: Path) -> "subprocess.CompletedProcess[str]":
    path = home / "job.sh"
    path.write_text(script)
    return subprocess.run(
        ["bash", path],
        env={"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


# Of a lab with Slurm 23.11, with and without jobacct_gather.
LIVE = """\
elapsed|0:10
live|358887424|cpu=00:00:01,energy=0,fs/disk=49358,mem=311398400,pages=0|energy=0,fs/disk=50000001
kept|||00:00:00|10
kept|||00:00:00|10
"""
ENDED = """\
kept|||00:02.025|18
kept|358887424|cpu=00:00:01,energy=0,mem=358887424|energy=0,fs/disk=50000001|00:02.025|18
"""
UNMEASURED = "kept|||00:00:00|18\nkept|||00:00:00|18\n"


@pytest.mark.parametrize(
    ("text", "sample"),
    [
        (
            LIVE,
            UsageSample(
                seconds=10,
                usage=Usage(
                    ram_bytes=311398400,
                    ram_peak_bytes=358887424,
                    cpu_seconds=1,
                    disk_written_bytes=50000001,
                ),
            ),
        ),
        (
            ENDED.replace("00:02.025|18", "1-00:00:02.025|86418"),
            UsageSample(
                seconds=86418,
                usage=Usage(
                    ram_peak_bytes=358887424, cpu_seconds=86402.025, disk_written_bytes=50000001
                ),
            ),
        ),
        (UNMEASURED, None),
        ("elapsed|0:10\n", None),
        ("elapsed|INVALID\nlive|\nlive|||\nkept|x\n", None),
        ("", None),
    ],
)
def test_what_slurms_accounting_says_is_read(text: str, sample: UsageSample | None) -> None:
    assert parse_usage(text) == sample
