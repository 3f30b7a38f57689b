"""Pipelines and sweeps from a terminal."""

import json
from pathlib import Path

import pytest

from flows.core import names
from tests.cli.conftest import Terminal

PIPELINE = """
steps:
- {name: train, config_path: tiny.yaml}
- name: evaluate
  config_path: tiny.yaml
  when: ${train.state} == 'succeeded'
  overrides: {training.output_dir: other}
"""
SWEEP = """
config_path: tiny.yaml
metric: loss
direction: minimize
space: {training.learning_rate: [0.30000000000000004, 0.4]}
"""


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    (folder / "nightly.yaml").write_text(PIPELINE)
    (folder / "rates.yaml").write_text(SWEEP)


@pytest.fixture
def family_flows(terminal: Terminal) -> None:
    """The flows of families, which the worker's own deployments are."""
    for flow in (names.PIPELINE_FLOW, names.SWEEP_FLOW):
        made = terminal.prefect.call("POST", "/flows/", {"name": flow})
        body = {"name": "default", "flow_id": made["id"], "work_pool_name": "oumi"}
        terminal.prefect.call("POST", "/deployments/", body)


@pytest.mark.usefixtures("family_flows")
def test_a_pipeline_writes_its_id(terminal: Terminal) -> None:
    done = terminal("pipeline", "nightly.yaml")
    job_id = done.out.strip()
    run = terminal.prefect.read_run(job_id)
    assert (done.code, done.out, run["name"]) == (0, f"{job_id}\n", f"nightly-{job_id[:8]}")
    assert done.err == f"{run['name']} is scheduled, 2 jobs; id {job_id}.\n"


def test_a_dry_run_of_a_pipeline_shows_its_steps(terminal: Terminal) -> None:
    plan = terminal("pipeline", "nightly.yaml", "--dry-run")
    assert plan.out.splitlines()[0] == "Dry run, nothing was started: pipeline nightly, 2 jobs."
    assert "Not checked yet: " in plan.err
    assert "${train.state} == 'succeeded'" in plan.out
    assert not terminal.engine.brought_up
    steps = terminal("pipeline", "nightly.yaml", "--dry-run", "--json").json["steps"]
    assert [step["name"] for step in steps] == ["train", "evaluate"]


@pytest.mark.usefixtures("family_flows")
def test_a_sweep_writes_its_id(terminal: Terminal) -> None:
    done = terminal("sweep", "rates.yaml")
    job_id = done.out.strip()
    assert (done.code, done.out) == (0, f"{job_id}\n")
    assert terminal.prefect.read_run(job_id)["name"] == f"rates-{job_id[:8]}"
    assert terminal("sweep", "rates.yaml", "--json").json["trials"] == 2


def test_a_dry_run_of_a_sweep_shows_what_it_tries_first(terminal: Terminal) -> None:
    plan = terminal("sweep", "rates.yaml", "--dry-run")
    lines = [line.split() for line in plan.out.splitlines()]
    assert "Not checked yet: " in plan.err
    assert lines[1:] == [["TRIAL", "training.learning_rate"], ["1", "0.3"], ["2", "0.4"]]
    assert not terminal.engine.brought_up


@pytest.mark.usefixtures("family_flows")
def test_a_sweep_can_be_followed_to_its_end_and_shows_its_leaderboard(
    terminal: Terminal,
) -> None:
    trial = terminal.submit("--job-name", "trial-2")
    terminal.into("RUNNING", "COMPLETED")(trial)
    rows = [
        {"trial": "trial-2", "state": "running", "loss": 0.123456789, "lr": 0.1, "job_id": trial},
        {"trial": "trial-1", "state": "stopped", "lr": 9},
    ]

    def end(job_id: str) -> None:
        table = {"type": names.PARTS_ARTIFACT, "data": json.dumps(rows), "flow_run_id": job_id}
        terminal.prefect.call("POST", "/artifacts/", {"key": f"parts-{job_id}", **table})
        terminal.into("RUNNING", "COMPLETED")(job_id)

    terminal.steps.append(end)
    done = terminal("sweep", "rates.yaml", "--watch")
    assert done.code == 0
    board = [line.split() for line in done.out.splitlines() if "trial-" in line]
    assert board == [
        [trial[:8], "succeeded", "trial-2", "0.123457", "lr=0.1"],
        ["stopped", "trial-1", "lr=9"],
    ]
    assert "trial-2" in terminal("show", done.out.split()[0]).out


@pytest.mark.usefixtures("family_flows")
def test_a_watched_sweep_shows_the_step_and_loss_of_its_running_trial(terminal: Terminal) -> None:
    trial = terminal.submit("--job-name", "trial-1")
    terminal.into("RUNNING")(trial)
    terminal.prefect.show_progress(trial, 50, step="30", max_steps="60", loss="4.2")
    rows = [{"trial": "trial-1", "state": "running", "lr": 0.1, "job_id": trial}]

    def start(job_id: str) -> None:
        table = {"type": names.PARTS_ARTIFACT, "data": json.dumps(rows), "flow_run_id": job_id}
        terminal.prefect.call("POST", "/artifacts/", {"key": f"parts-{job_id}", **table})
        terminal.into("RUNNING")(job_id)

    terminal.steps += [start, terminal.into("COMPLETED")]
    done = terminal("sweep", "rates.yaml", "--watch")
    assert "; trial-1 at step 30 of 60, loss 4.2" in done.out
