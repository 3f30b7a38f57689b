"""Git's ignore rules are read as Git reads them, and nothing of a repository is executed."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from flows.core.git_changes import GitChanges
from flows.core.git_files import IgnoreRules, find_repository
from flows.core.provenance import provenance

NAMES = ("a", "b", "data", "Data", "x.bin", "X.BIN", "keep.bin", "c d", ".hid", "log.txt", "é")
PATTERNS = (
    "*.bin", "!keep.bin", "/data", "data/", "!data/", "a/**", "**/b", "a/**/b", "*.B?N", "[a-c]",
    "!/a/keep.bin", "\\!x", "#note", "c\\ d", "*", "!*/", "!.gitignore", "log.*", "/*/a", "  ",
    "x.bin   ", "data/*", "!data/keep.bin", "é", "[!a]*.txt", "/a/b", "b/", "**", "a/*/x.bin",
    ".hid", "D*", "!D*",
)  # fmt: skip


def git(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HOME": str(folder.parent), "XDG_CONFIG_HOME": str(folder.parent / "xdg")}
    env["GIT_CONFIG_NOSYSTEM"] = "1"
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    return subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder, env=env, check=check, capture_output=True, text=True, timeout=30,
    )  # fmt: skip


def _write_rules(path: Path, draw: random.Random, most: int = 5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [draw.choice(PATTERNS) for _ in range(draw.randint(0, most))]
    path.write_text("\n".join(lines) + draw.choice(["\n", "", "\r\n"]))


def _grow(folder: Path, draw: random.Random, depth: int) -> list[Path]:
    found: list[Path] = []
    for name in draw.sample(NAMES, draw.randint(2, 6)):
        path = folder / name
        found.append(path)
        if depth and draw.random() < 0.5:
            path.mkdir()
            found += _grow(path, draw, depth - 1)
        else:
            path.touch()
    if draw.random() < 0.5:
        _write_rules(folder / ".gitignore", draw)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_a_file_is_ignored_where_git_ignores_it(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    top = tmp_path / "top"
    top.mkdir()
    git(top, "init", "--quiet")
    paths = [path for path in _grow(top, draw, 3) if path.name != ".gitignore"]
    _write_rules(top / ".git" / "info" / "exclude", draw, most=2)
    if draw.random() < 0.5:
        _write_rules(tmp_path / "own", draw, most=2)
        git(top, "config", "core.excludesFile", draw.choice(["~/own", str(tmp_path / "own")]))
    else:
        _write_rules(tmp_path / "xdg" / "git" / "ignore", draw, most=2)
    git(top, "config", "core.ignorecase", draw.choice(["true", "false"]))
    tracked = draw.sample(paths, 2)
    git(top, "add", "--force", "--", *map(str, tracked), check=False)

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    repository = find_repository(top)
    assert repository is not None
    rules = IgnoreRules(repository, home=tmp_path)
    names = [path.relative_to(top).as_posix() for path in paths]
    ours = {name for name in names if rules.find(name)}
    asked = "\0".join(names) + "\0"
    done = subprocess.run(
        ["git", "check-ignore", "-z", "--stdin"],
        cwd=top, input=asked, capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    theirs = set(filter(None, done.stdout.split("\0")))
    assert ours == theirs, f"seed {seed}: {ours ^ theirs}"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A repository whose configuration names a program wherever Git takes one."""
    top = tmp_path / "hostile"
    top.mkdir()
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\ncat\n")
    program.chmod(0o755)
    git(top, "init", "--quiet")
    (top / "code.py").write_text("print(1)\n")
    (top / ".gitignore").write_text("*.bin\n")
    (top / "x.bin").touch()
    git(top, "add", ".")
    git(top, "commit", "--quiet", "--message=Begin")
    (top / "code.py").write_text("print(22)\n")
    (top / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    (tmp_path / "included").write_text(f"[core]\nfsmonitor = {program}\nexcludesFile = /dev/zero\n")
    keys = (
        "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass",
        "diff.external", "diff.evil.textconv", "diff.evil.command", "filter.evil.clean",
        "filter.evil.process", "filter.evil.smudge", "core.gitProxy", "gpg.program", "alias.diff",
    )  # fmt: skip
    for key in keys:
        git(top, "config", key, str(program))
    git(top, "config", "include.path", str(tmp_path / "included"))
    for hook in ("post-index-change", "fsmonitor-watchman", "post-checkout", "pre-commit"):
        (top / ".git" / "hooks").mkdir(exist_ok=True)
        (top / ".git" / "hooks" / hook).symlink_to(program)
    if os.geteuid() == 0:
        for path in (top, *top.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    return top


def test_no_program_that_a_repository_names_is_executed(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_PAGER", "GIT_EXEC_PATH"):
        monkeypatch.setenv(name, str(tmp_path / "program"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    repository = find_repository(hostile)
    assert repository is not None
    rule = IgnoreRules(repository).find("x.bin")
    assert rule is not None
    assert (rule.place, str(rule.pattern)) == (".gitignore:1", "*.bin")
    code = provenance([], client_cwd=str(hostile), seed=None).code
    assert code is not None
    assert "+print(22)" in (code.diff or "")
    assert code.untracked == [".gitattributes"]
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "name", [".gitignore", ".git/info/exclude", ".git/index", ".git/HEAD", "own", "code.py"]
)
def test_a_pipe_among_the_files_of_a_repository_keeps_nothing_waiting(
    name: str, hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hostile / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    (tmp_path / "included").write_text(f"[core]\nexcludesFile = {hostile}/own\n")
    repository = find_repository(hostile)
    assert (repository is None) is (name == ".git/HEAD")
    if repository is not None:
        IgnoreRules(repository, home=tmp_path).find("a.bin")
    provenance([], client_cwd=str(hostile), seed=None)


def test_rules_that_take_for_ever_to_match_are_passed_over(hostile: Path) -> None:
    (hostile / ".gitignore").write_text("*a" * 40 + "b\n*.bin\n")
    repository = find_repository(hostile)
    assert repository is not None
    rules = IgnoreRules(repository)
    assert rules.find("a" * 250) is None
    assert rules.find("y.bin") is not None


def _change(top: Path, paths: list[Path], draw: random.Random) -> None:
    for path in draw.sample(paths, min(6, len(paths))):
        match draw.choice(["edit", "remove", "link", "mode", "line ends", "unstage"]):
            case "edit":
                path.write_text(f"{draw.random()}\n")
            case "remove":
                path.unlink()
            case "link":
                path.unlink()
                path.symlink_to("nowhere")
            case "mode":
                path.chmod(0o755)
            case "line ends":
                path.write_bytes(path.read_bytes() + b"more\n")
            case _:
                git(top, "rm", "--quiet", "--cached", "--force", "--", str(path), check=False)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_not_committed_is_what_git_says(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    top = tmp_path / "top"
    top.mkdir()
    git(top, "init", "--quiet", "--initial-branch=a/b")
    _grow(top, draw, 2)
    (top / "empty.txt").touch()
    git(top, "add", ".")
    git(top, "commit", "--quiet", "--allow-empty", "--message=Begin")
    if draw.random() < 0.5:
        git(top, "gc", "--quiet")
    tracked = git(top, "ls-files", "-z").stdout.split("\0")
    _change(top, [top / name for name in tracked if name and name != ".gitignore"], draw)
    (top / "new").write_text("")

    repository = find_repository(top)
    assert repository is not None
    changes = GitChanges(repository)
    head = changes.head()
    assert head is not None
    assert head.commit == git(top, "rev-parse", "HEAD").stdout.strip()
    assert head.branch == "a/b"
    found = changes.compare(head, top, most_untracked=1000)
    theirs = git(top, "diff", "HEAD", "--name-only", "-z", "--no-renames").stdout.split("\0")
    ours = [line.split(" b/", 1)[1] for line in found.diff.splitlines() if line[:6] == "diff -"]
    assert sorted(ours) == sorted(filter(None, theirs))
    loose = git(top, "ls-files", "--others", "--exclude-standard", "-z").stdout.split("\0")
    assert found.untracked == sorted(filter(None, loose))
