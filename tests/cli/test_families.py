"""Pipelines and sweeps from a terminal."""

from flows.core.models import JobPart
from flows.core.states import JobState
from tests.cli.conftest import Terminal
from tests.cli.fakes import JOB_ID, status_of

PARTS = [
    JobPart(name="trial-2", state="succeeded", value=0.123456789, note="lr=0.1", job_id=JOB_ID),
    JobPart(name="trial-1", state="stopped", note="lr=9"),
]


def test_a_pipeline_writes_its_id_and_a_dry_run_its_steps(terminal: Terminal) -> None:
    done = terminal("pipeline", "nightly.yaml")
    assert (done.code, done.out, done.err) == (0, f"{JOB_ID}\n", "nightly is scheduled.\n")
    terminal.backend.brought_up = False
    plan = terminal("pipeline", "nightly.yaml", "--dry-run")
    assert plan.out.splitlines()[0] == "Dry run of nightly.yaml."
    assert plan.err == "The disk was not looked at.\n"
    assert "${train.state} == 'succeeded'" in plan.out
    assert not terminal.backend.brought_up
    assert terminal("pipeline", "p.yaml", "--dry-run", "--json").json["steps"][0]["name"]


def test_a_sweep_writes_its_id_and_a_dry_run_what_it_tries_first(terminal: Terminal) -> None:
    assert terminal("sweep", "rates.yaml").out == f"{JOB_ID}\n"
    plan = terminal("sweep", "rates.yaml", "--dry-run")
    lines = [line.split() for line in plan.out.splitlines()]
    assert plan.err == "The disk was not looked at.\n"
    assert lines[1:] == [["TRIAL", "training.learning_rate"], ["1", "0.3"]]
    assert terminal("sweep", "rates.yaml", "--json").json["trials"] == 2


def test_a_sweep_can_be_followed_to_its_end_and_shows_its_leaderboard(terminal: Terminal) -> None:
    status = status_of(JobState.SUCCEEDED, command="sweep", parts=PARTS)
    terminal.jobs.story = [status]
    done = terminal("sweep", "rates.yaml", "--watch")
    assert done.code == 0
    board = [line.split() for line in done.out.splitlines() if "trial-" in line]
    assert board == [
        [JOB_ID[:8], "succeeded", "trial-2", "0.123457", "lr=0.1"],
        ["stopped", "trial-1", "lr=9"],
    ]
    terminal.jobs.story = [status]
    assert "trial-2" in terminal("show", JOB_ID).out
