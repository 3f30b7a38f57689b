"""The commands for schedules."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.conftest import Terminal

NIGHTLY = ("--cron", "0 2 * * *", "--timezone", "Europe/Zurich", "--name", "nightly")


@pytest.fixture
def no_schedules(terminal: Terminal) -> Iterator[None]:
    """The server has none before, and none after."""
    delete_all(terminal)
    yield
    delete_all(terminal)


def delete_all(terminal: Terminal) -> None:
    for deployment in terminal.prefect.schedules():
        terminal.prefect.call("DELETE", f"/deployments/{deployment['id']}")


@pytest.fixture
def nightly(terminal: Terminal, no_schedules: None) -> dict[str, Any]:
    del no_schedules
    return terminal("schedule", "tiny.yaml", *NIGHTLY, "--json").json


@pytest.mark.usefixtures("no_schedules")
def test_a_schedule_is_made_as_it_was_written(terminal: Terminal) -> None:
    done = terminal(
        *("schedule", "tiny.yaml", *NIGHTLY, "--overlap", "queue", "--set", "training.seed=7"),
        *("--max-retries", "2"),
    )
    assert done.code == 0
    (made,) = terminal.prefect.schedules()
    assert made["id"] in done.out
    assert made["schedules"][0]["schedule"] == {
        "cron": "0 2 * * *",
        "timezone": "Europe/Zurich",
        "day_or": True,
    }
    assert made["labels"]["oumi.schedule"] == "nightly"
    assert made["labels"]["oumi.overlap"] == "queue"
    request = made["parameters"]["request"]
    assert request["overrides"] == {"training.seed": 7}
    assert (request["max_retries"], request["own_output"]) == (2, True)


def test_a_dry_run_needs_no_engine(terminal: Terminal) -> None:
    done = terminal("schedule", "tiny.yaml", "--every", "60", "--dry-run", "--json")
    assert done.json["dry_run"] is True
    written = terminal("schedule", "tiny.yaml", "--every", "60", "--dry-run")
    assert "Not checked yet: " in written.err
    assert not terminal.engine.brought_up


def test_schedules_are_listed_with_their_next_time_and_last_run(
    terminal: Terminal, nightly: dict[str, Any]
) -> None:
    schedule_id = nightly["schedule_id"]
    run = terminal.prefect.create_run(schedule_id, seconds_ago=60)
    terminal.into("RUNNING", "COMPLETED")(run)
    done = terminal("schedules")
    header, row = done.out.splitlines()
    assert header.split() == ["ID", "STATE", "NAME", "WHEN", "NEXT", "LAST"]
    assert row.startswith(f"{schedule_id[:8]}  active  nightly  cron 0 2 * * * Europe/Zurich")
    assert row.rstrip().endswith("succeeded")
    assert terminal("schedules", "--json").json["schedules"][0]["schedule_id"] == schedule_id


def test_a_schedule_is_changed_by_its_name(terminal: Terminal, nightly: dict[str, Any]) -> None:
    for command, paused in (("pause-schedule", True), ("resume-schedule", False)):
        done = terminal(command, "nightly")
        assert done.code == 0
        assert done.out.startswith("nightly ")
        (made,) = terminal.prefect.schedules()
        assert (made["id"], made["paused"]) == (nightly["schedule_id"], paused)
    done = terminal("unschedule", "nightly")
    assert (done.code, done.out.startswith("nightly is deleted")) == (0, True)
    assert terminal.prefect.schedules() == []
