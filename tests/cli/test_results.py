"""Results in a terminal."""

from pathlib import Path

from tests.cli.conftest import Terminal


def test_results_are_shown_with_sizes_and_paths(terminal: Terminal, folder: Path) -> None:
    job_id = terminal("run", "tiny.yaml").out.strip()
    output = folder / "out"
    (output / "checkpoint-5").mkdir(parents=True)
    (output / "checkpoint-5" / "model.safetensors").write_bytes(b"x" * 2000)
    (output / "rows.jsonl").write_text('{"a": 1}\n')
    shown = terminal("results", job_id)
    assert shown.code == 0
    assert "step 5, not whole" in shown.out
    assert "2.0 kB" in shown.out
    assert f"{output}/rows.jsonl" in shown.out
    assert terminal("results", job_id, "--json").json["total_files"] == 2


def test_a_copy_of_nothing_is_refused(terminal: Terminal, folder: Path, tmp_path: Path) -> None:
    job_id = terminal("run", "tiny.yaml").out.strip()
    refused = terminal("collect", job_id, str(tmp_path / "copy"))
    assert "INVALID_ARGUMENT: the job has no results to copy" in refused.err
    assert "oumi-flows results" in refused.err
