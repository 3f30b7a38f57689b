"""No module of the folder that a person works in is taken for one of ours or of Python's."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oumi_flows
from mcp_server.docs_index.store import DocsStore
from tests.support.stack import REPOSITORY

TAKEN = ("flows", "mcp_server", "prefect", "json", "random", "yaml", "typing_extensions")
COMMAND = "import sys; from oumi_flows import main; sys.exit(main())"
"""What an installed `oumi-flows` consists of."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder whose modules have the names of ours, and write `executed` when they run."""
    folder = tmp_path / "project"
    for name in TAKEN:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(
            f"open({str(tmp_path / 'executed')!r}, 'a').write(__file__)\n"
            "raise ImportError(__file__)\n"
        )
    return folder


@pytest.fixture
def untouched(project: Path) -> Iterator[None]:
    yield
    executed = project.parent / "executed"
    assert not executed.exists(), executed.read_text()


def run(command: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("entry", [".", "", "here", "here:."])
def test_the_command_starts_in_a_project_with_modules_of_our_names(
    project: Path, entry: str
) -> None:
    path = entry.replace("here", str(project))
    # The interpreter starts with the folder in front, as it does for an installed command.
    command = [sys.executable, "-P", "-c", COMMAND, "mcp", "--help"]
    done = run(command, project, PYTHONPATH=path or os.pathsep)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--transport" in done.stdout


@pytest.mark.usefixtures("untouched")
def test_a_process_of_ours_takes_no_module_of_the_folder(project: Path) -> None:
    schedule = json.dumps({"cron": "0 4 * * *", "timezone": "UTC"})
    command = oumi_flows.python_command("flows.answers.schedule_times", schedule, "2")
    done = run(command, project, PYTHONPATH=".")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 2


@pytest.mark.usefixtures("untouched")
def test_the_docs_index_is_built_in_such_a_folder(project: Path, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text('"""A package."""\n')
    target = tmp_path / "docs" / "index.sqlite3"
    command = oumi_flows.python_command(
        "mcp_server.docs_index.build", str(tmp_path / "package"), str(target)
    )
    done = run(command, project, PYTHONPATH=str(project))
    assert done.returncode == 0, done.stderr
    assert DocsStore(target).count() >= 0


def test_absolute_folders_of_pythonpath_come_after_python_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    python_path = os.pathsep.join([".", "", "src", "/site", str(tmp_path / "project")])
    found = oumi_flows.trusted_paths(
        ["/bin", str(Path.cwd()), f"{Path.cwd()}/src", "/site", "/usr/lib/python3"], python_path
    )
    assert found == ["/usr/lib/python3", "/site", str(REPOSITORY)]


def test_every_python_process_of_ours_is_isolated() -> None:
    """Each list that starts with `sys.executable` goes on with -I, or is `python_command`'s.

    The warm host becomes commands of jobs, which are not isolated.
    """
    loose = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for folder in ("flows", "mcp_server")
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.List | ast.Tuple)
        and _is_loose(node.elts)
        and path.parent.name != "warm"
    ]
    assert loose == []


def _is_loose(elements: list[Any]) -> bool:
    if not elements or ast.unparse(elements[0]) != "sys.executable":
        return False
    return len(elements) < 2 or ast.unparse(elements[1]) != "'-I'"
