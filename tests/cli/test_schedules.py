"""The commands for schedules."""

from pathlib import Path

import pytest

from flows.core.models import Overlap
from mcp_server.services.schedules.values import NewSchedule, Times
from tests.cli.conftest import Terminal
from tests.cli.fakes import SCHEDULE_ID


def test_a_schedule_is_asked_for_as_it_was_written(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    when = ["--cron", "0 2 * * *", "--timezone", "Europe/Zurich", "--overlap", "queue"]
    what = ["--set", "seed=7", "--autostop-minutes", "30"]
    done = terminal("schedule", "a.yaml", *when, "--name", "nightly", *what)
    assert done.code == 0
    assert SCHEDULE_ID in done.out
    ((called, new),) = terminal.backend.planned.asked
    assert called == "schedule"
    assert isinstance(new, NewSchedule)
    assert new.times == Times(cron="0 2 * * *", timezone="Europe/Zurich")
    assert (new.name, new.overlap) == ("nightly", Overlap.QUEUE)
    assert (new.job.config_path, new.job.client_cwd) == ("a.yaml", str(tmp_path))
    assert (new.job.overrides, new.job.autostop_minutes) == ({"seed": 7}, 30)


def test_a_dry_run_needs_no_engine(terminal: Terminal) -> None:
    done = terminal("schedule", "a.yaml", "--every", "60", "--dry-run", "--json")
    assert done.json["dry_run"] is True
    written = terminal("schedule", "a.yaml", "--every", "60", "--dry-run")
    assert "The disk was not looked at.\n" in written.err
    assert not terminal.backend.brought_up


def test_schedules_are_listed_with_their_next_time_and_last_run(terminal: Terminal) -> None:
    done = terminal("schedules")
    header, row = done.out.splitlines()
    assert header.split() == ["ID", "STATE", "NAME", "WHEN", "NEXT", "LAST"]
    assert row.startswith("5c8e8d7c  active  nightly  cron 0 2 * * * UTC")
    assert row.rstrip().endswith("succeeded")
    assert terminal("schedules", "--json").json["schedules"][0]["schedule_id"] == SCHEDULE_ID


@pytest.mark.parametrize(
    ("command", "what"),
    [("pause-schedule", "pause"), ("resume-schedule", "resume"), ("unschedule", "delete")],
)
def test_a_schedule_is_changed_by_its_name(terminal: Terminal, command: str, what: str) -> None:
    done = terminal(command, "nightly")
    assert done.code == 0
    assert done.out.startswith("nightly is ")
    assert terminal.backend.planned.asked == [(what, "nightly")]
