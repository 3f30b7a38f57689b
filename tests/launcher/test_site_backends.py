"""Frontier, Perlmutter and Polaris through Oumi's real clients, over an ssh that has the answers.

The tables are laid out as the commands of Slurm 23 and PBS 2022 lay them out.
"""

from collections.abc import Generator
from pathlib import Path

import pytest
import yaml

from flows.core.errors import ClusterNotFound, ClusterUnreachable, JobNotFound
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.launcher.cloud_backend import make_backend
from flows.launcher.oumi.backend import OumiBackend, short_name
from flows.launcher.port import LauncherState
from flows.launcher.sites.polaris import STATE_OF_PBS
from flows.launcher.slurm.states import STATE_OF_SLURM

KEY = "oumi-0123456789abcdef0123456789abcdef-1"
NAME = "oumi-0123456789abcdef0123456-1"
HOSTS = {
    "frontier": "frontier.olcf.ornl.gov",
    "perlmutter": "perlmutter.nersc.gov",
    "polaris": "polaris.alcf.anl.gov",
}
CLUSTERS = {"frontier": "batch.me", "perlmutter": "regular.me", "polaris": "debug.me"}
# openpbs 20, src/include/job.h
LETTERS_OF_PBS = set("BEFHMQRSTUWX")

SSH = """\
#!/bin/bash
case "$*" in *"-O check"*) [ ! -e "$SITE/closed" ]; exit;; esac
said=$(cat)
printf '%s\\n' "$said" >>"$SITE/said"
for command in qselect qstat qsub qdel sacct sbatch scancel; do
  case $said in *"$command "*)
    case $said in *" -f "*) command=$command-f;; esac
    if [ -e "$SITE/$command.error" ]; then cat "$SITE/$command.error" >&2; exit 1; fi
    cat "$SITE/$command" 2>/dev/null; exit 0;;
  esac
done
"""


class Site:
    """A login node: what its commands print, and what was said to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answers(self, command: str, text: str) -> None:
        (self.folder / command).write_text(text)

    def fails(self, command: str, text: str) -> None:
        (self.folder / f"{command}.error").write_text(text)

    def said(self) -> list[str]:
        file = self.folder / "said"
        return file.read_text().splitlines() if file.exists() else []

    def connect(self, cloud: str, user: str = "me") -> None:
        (self.folder / ".ssh" / f"control-{HOSTS[cloud]}-22-{user}").touch()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Site]:
    from oumi.launcher.launcher import LAUNCHER

    (tmp_path / ".ssh").mkdir()
    (tmp_path / "bin").mkdir()
    for program, text in {"ssh": SSH, "rsync": "#!/bin/sh\n"}.items():
        (tmp_path / "bin" / program).write_text(text)
        (tmp_path / "bin" / program).chmod(0o755)
    monkeypatch.setenv("SITE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    # Oumi builds a cloud once in a process, and looks for connections when it does.
    built = vars(LAUNCHER)["_clouds"]
    before = {cloud: built.pop(cloud) for cloud in HOSTS if cloud in built}
    yield Site(tmp_path)
    for cloud in HOSTS:
        built.pop(cloud, None)
    built.update(before)


@pytest.fixture(params=["frontier", "perlmutter"])
def slurm_site(request: pytest.FixtureRequest, site: Site) -> OumiBackend:
    site.connect(request.param)
    return backend_of(request.param)


@pytest.fixture
def polaris(site: Site) -> OumiBackend:
    site.connect("polaris")
    return backend_of("polaris")


def backend_of(cloud: str) -> OumiBackend:
    backend = make_backend(cloud, Settings())
    assert isinstance(backend, OumiBackend)
    return backend


def sacct(*rows: tuple[str, str, str, str]) -> str:
    """What `sacct` prints in the format that Oumi asks for."""
    table = [("JobID", "JobName", "User", "State", "Reason"), *[("-" * 30,) * 5]]
    table += [(job, name, "me", state, reason) for job, name, state, reason in rows]
    return "".join(
        " ".join([f"{row[0]:<30}", *(f"{cell:>30}" for cell in row[1:])]) + "\n" for row in table
    )


def qstat(*rows: tuple[str, str, str]) -> str:
    """What ``qstat -s -x -w`` prints; names are cut at 15 characters."""
    widths = (30, 15, 15, 15, 8, 4, 5, 6, 5, 1, 5)
    heads = (
        *("Job ID", "Username", "Queue", "Jobname", "SessID", "NDS", "TSK", "Memory", "Time"),
        *("S", "Time"),
    )
    lines = [heads, tuple("-" * width for width in widths)]
    jobs = [
        (
            *(f"{job}.polaris-pbs-01.hsn.cm*", "me", queue, f"{NAME[:14]}*", "--"),
            *("1", "64", "--", "01:00", state, "--"),
        )
        for job, queue, state in rows
    ]

    def line(cells: tuple[str, ...]) -> str:
        return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))

    body = [text for job in jobs for text in (line(job), "   Job run at Mon Nov 23 at 10:00")]
    head = ["", "polaris-pbs-01.hsn.cm.polaris.alcf.anl.gov:", "  Req'd  Req'd   Elap"]
    return "\n".join([*head, *map(line, lines), *body, ""])


def details(job: str, **fields: str) -> str:
    """What ``qstat -x -f`` prints of a job."""
    lines = [f"    {name.replace('__', '.')} = {value}" for name, value in fields.items()]
    return "\n".join([f"Job Id: {job}.polaris-pbs-01.hsn.cm.polaris.alcf.anl.gov", *lines, "", ""])


def handle(backend: OumiBackend, cluster: str, job: str) -> JobHandle:
    return JobHandle(cloud=backend.server, cluster_name=cluster, launcher_job_id=job)


def cluster_of(backend: OumiBackend) -> str:
    return CLUSTERS[backend.server]


def test_every_state_of_slurm_is_what_it_means_on_the_sites_of_slurm(
    slurm_site: OumiBackend, site: Site
) -> None:
    # Oumi calls those that were cancelled pending, and SUSPENDED failed.
    words = {word: f"{word} by 1001" if word == "CANCELLED" else word for word in STATE_OF_SLURM}
    numbers = {word: str(number) for number, word in enumerate(words, 100)}
    site.answers(
        "sacct", sacct(*((numbers[word], "job", said, "None") for word, said in words.items()))
    )
    listed = slurm_site.observe(cluster_of(slurm_site))
    assert {word: listed[numbers[word]].state for word in words} == {
        word: state for word, (state, _) in STATE_OF_SLURM.items()
    }
    for word, number in numbers.items():
        single = slurm_site.observe_job(handle(slurm_site, cluster_of(slurm_site), number))
        assert single is not None
        seen = listed[number]
        assert (single.state, single.reason, single.message) == (
            seen.state,
            seen.reason,
            seen.message,
        ), word


@pytest.mark.parametrize(
    ("state", "why", "reason", "message"),
    [
        ("FAILED", "NonZeroExitCode", "nonzero_exit", "Slurm says FAILED (NonZeroExitCode)."),
        ("FAILED", "BadConstraints", "launch_failed", "Slurm says FAILED (BadConstraints)."),
        ("NODE_FAIL", "None", "preempted", "Slurm says NODE_FAIL."),
        ("COMPLETED", "None", "completed", "The job finished."),
        ("CANCELLED by 1001", "None", None, "Slurm says CANCELLED."),
    ],
)
def test_what_slurm_says_of_the_end_of_a_job_on_a_site_is_told(
    slurm_site: OumiBackend, site: Site, state: str, why: str, reason: str | None, message: str
) -> None:
    site.answers("sacct", sacct(("7", "job", state, why)))
    seen = slurm_site.observe(cluster_of(slurm_site))["7"]
    assert (seen.reason, seen.message) == (reason, message)


def job_config(cloud: str, folder: Path) -> str:
    return yaml.safe_dump(
        {
            "name": "x",
            "user": "me",
            "resources": {"cloud": cloud},
            "working_dir": str(folder),
            "run": "true",
        }
    )


def test_a_job_that_the_accounts_are_late_to_list_has_been_launched(
    slurm_site: OumiBackend, site: Site, tmp_path: Path
) -> None:
    # Oumi calls its launch failed, and leaves it to run.
    site.answers("sacct", sacct())
    site.answers("sbatch", "4242\n")
    config = job_config(slurm_site.server, tmp_path)
    cluster = cluster_of(slurm_site)
    launched = slurm_site.launch(config, cluster_name=cluster, key=KEY)
    assert launched.launcher_job_id == "4242"
    site.answers("sacct", sacct(("4242", NAME, "PENDING", "Priority")))
    assert slurm_site.find(cluster, KEY) == launched
    assert slurm_site.launch(config, cluster_name=cluster, key=KEY) == launched
    assert sum("sbatch" in line for line in site.said()) == 1


def test_jobs_of_a_user_whose_connection_opened_late_are_known(site: Site) -> None:
    # Oumi knows no cluster of theirs, as if nothing had been launched.
    backend = backend_of("frontier")
    assert backend.cluster_names() == []
    site.answers("sacct", sacct(("7", NAME, "RUNNING", "None")))
    assert backend.find("batch.me", KEY) == handle(backend, "batch.me", "7")
    with pytest.raises(ClusterNotFound, match=r"queue\.user"):
        backend.observe("frontier")


def test_without_a_connection_to_polaris_nothing_is_known_and_nobody_is_asked(site: Site) -> None:
    with pytest.raises(ClusterUnreachable, match="no ssh connection of me to Polaris"):
        backend_of("polaris").observe("debug.me")
    assert site.said() == []


def test_a_job_that_has_ended_is_not_cancelled_and_an_unknown_one_not_found(
    slurm_site: OumiBackend, site: Site
) -> None:
    cluster = cluster_of(slurm_site)
    site.answers("sacct", sacct(("7", "x", "COMPLETED", "None"), ("8", "x", "SUSPENDED", "None")))
    slurm_site.cancel(handle(slurm_site, cluster, "7"), force=False)
    slurm_site.cancel(handle(slurm_site, cluster, "8"), force=False)
    assert [line for line in site.said() if "scancel" in line] == ["scancel 8"]
    with pytest.raises(JobNotFound):
        slurm_site.cancel(handle(slurm_site, cluster, "9"), force=False)


def test_every_letter_of_pbs_is_a_state_and_none_alone_is_a_success(
    polaris: OumiBackend, site: Site
) -> None:
    assert set(STATE_OF_PBS) == LETTERS_OF_PBS
    numbers = {letter: str(number) for number, letter in enumerate(sorted(LETTERS_OF_PBS), 100)}
    site.answers("qstat", qstat(*((numbers[letter], "debug", letter) for letter in numbers)))
    site.answers("qstat-f", "")
    listed = polaris.observe("debug.me")
    # What is over and PBS says no more of is left out: unknown.
    assert {letter: listed[numbers[letter]].state for letter in "BERSU"} == dict.fromkeys(
        "BERSU", LauncherState.RUNNING
    )
    assert {letter: listed[numbers[letter]].state for letter in "HQTW"} == dict.fromkeys(
        "HQTW", LauncherState.PENDING
    )
    assert not {numbers[letter] for letter in "FMX"} & set(listed)


@pytest.mark.parametrize(
    ("fields", "state", "reason", "message"),
    [
        ({"Exit_status": "0", "substate": "92"}, "succeeded", "completed", "The job finished."),
        (
            {"Exit_status": "3", "substate": "93"},
            "failed",
            "nonzero_exit",
            "The job exited with code 3.",
        ),
        ({"Exit_status": "137"}, "failed", "killed", "signal 9"),
        ({"Exit_status": "265"}, "failed", "killed", "signal 9"),
        ({"Exit_status": "-27", "comment": "mem exceeded"}, "failed", "out_of_memory", "mem"),
        ({"Exit_status": "-29"}, "failed", "timed_out", "status -29"),
        (
            {
                "Exit_status": "271",
                "Resource_List__walltime": "01:00:00",
                "resources_used__walltime": "01:00:09",
            },
            "failed",
            "timed_out",
            "its limit of 01:00:00",
        ),
        ({"Exit_status": "271"}, "failed", "killed", "signal 15"),
        (
            {"Exit_status": "-1", "comment": "no such\n\t user"},
            "failed",
            "launch_failed",
            "no such user",
        ),
        (
            {"Exit_status": "271", "substate": "91", "comment": "and terminated"},
            "cancelled",
            None,
            "and terminated",
        ),
        ({"substate": "91"}, "cancelled", None, ""),
        ({"substate": "92"}, "failed", "lost", "ended, but not how"),
        ({"Exit_status": "?"}, "failed", "lost", "ended, but not how"),
    ],
)
def test_how_a_job_of_pbs_ended_is_what_its_exit_status_says(
    polaris: OumiBackend,
    site: Site,
    fields: dict[str, str],
    state: str,
    reason: TerminationReason | None,
    message: str,
) -> None:
    # Oumi calls every one of them succeeded.
    site.answers("qstat", qstat(("7", "debug", "F"), ("8", "small", "F")))
    site.answers("qstat-f", details("7", Job_Name=NAME, job_state="F", **fields))
    seen = polaris.observe("debug.me")["7"]
    assert (seen.state, seen.reason) == (state, reason)
    assert message in seen.message
    single = polaris.observe_job(handle(polaris, "debug.me", "7"))
    assert single == seen
    assert sum("qstat -x -f" in line for line in site.said()) == 1


def test_a_pbs_that_does_not_answer_ends_no_job(polaris: OumiBackend, site: Site) -> None:
    site.answers("qstat", qstat(("7", "debug", "F")))
    site.fails("qstat-f", "pbs_iff: cannot connect\n")
    with pytest.raises(ClusterUnreachable, match="cannot connect"):
        polaris.observe("debug.me")


def test_a_job_that_pbs_has_purged_is_unknown(polaris: OumiBackend, site: Site) -> None:
    site.answers("qstat", qstat(("7", "debug", "F"), ("8", "debug", "R")))
    site.fails("qstat-f", "qstat: Unknown Job Id 7.polaris-pbs-01\n")
    assert set(polaris.observe("debug.me")) == {"8"}


def test_a_job_on_polaris_is_found_by_its_whole_name(polaris: OumiBackend, site: Site) -> None:
    # Oumi's list has the first 14 characters of it.
    assert short_name(KEY) == NAME
    site.answers("qselect", "")
    assert polaris.find("debug.me", KEY) is None
    site.answers("qselect", "2037043.polaris-pbs-01\n2037042.polaris-pbs-01\n")
    assert polaris.find("debug.me", KEY) == handle(polaris, "debug.me", "2037042")
    assert f"qselect -x -u me -N {NAME}" in site.said()
    site.fails("qselect", "qselect: cannot connect to server\n")
    with pytest.raises(ClusterUnreachable, match="cannot connect"):
        polaris.find("debug.me", KEY)
