"""Running jobs again and noting something about them, from a terminal."""

from uuid import uuid4

from tests.cli.conftest import Terminal


def test_a_job_runs_again_with_another_value(terminal: Terminal) -> None:
    source = terminal.submit("--set", "training.max_steps=7")
    done = terminal("run", "--from", source, "--set", "training.seed=3", "--json")
    assert done.code == 0
    again = done.json
    assert again["job_id"] != source
    shown = terminal("show", again["job_id"], "--json").json
    assert shown["from_job"] == source


def test_a_continuation_without_a_checkpoint_is_refused(terminal: Terminal) -> None:
    source = terminal.submit()
    terminal.into("RUNNING", "FAILED")(source)
    done = terminal("run", "--from", source, "-s", "training.max_steps=+200", "--dry-run")
    assert done.code != 0
    assert "no whole checkpoint" in done.err


def test_neither_a_config_nor_a_job_is_an_error_in_words_of_the_terminal(
    terminal: Terminal,
) -> None:
    done = terminal("run")
    assert done.code != 0
    assert "Give CONFIG or --from" in done.err


def test_a_note_and_tags_are_listed(terminal: Terminal) -> None:
    job_id, tag = terminal.submit(), uuid4().hex
    done = terminal("note", job_id, "a base line", "--tag", tag)
    assert done.code == 0
    listed = terminal("jobs", "--tag", tag)
    header, row = listed.out.splitlines()
    assert header.split()[-1] == "NOTE"
    assert row.rstrip().endswith(f"#{tag} a base line")
    assert terminal("note", job_id, "--no-tags").code == 0
    assert terminal("jobs", "--tag", tag, "--json").json["jobs"] == []
    assert terminal("note", job_id, "--no-tags", "--tag", "x").code != 0
