import os
import stat
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from flows.core.configs.reader import (
    MAX_CONFIG_BYTES,
    ConfigKind,
    load_snapshot,
    read_config,
    resolve_config_path,
    save_snapshot,
)
from flows.core.errors import ConfigNotFound, InvalidArgument, InvalidConfig, OumiFlowsError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def error_of(path: Path) -> str:
    with pytest.raises(OumiFlowsError) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_path_may_be_absolute_relative_or_start_from_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path / "train.yaml", "a: 1")
    (tmp_path / "sub").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (str(config), "train.yaml", "./sub/../train.yaml", "~/train.yaml"):
        assert resolve_config_path(given, str(tmp_path)) == config
    assert resolve_config_path("../train.yaml", "~/sub") == config


@pytest.mark.parametrize("name", ["my config.yaml", 'it\'s "quoted".yaml', "日本.yaml"])
def test_a_path_may_hold_spaces_and_quotes(tmp_path: Path, name: str) -> None:
    folder = tmp_path / 'a folder\'s "name"'
    folder.mkdir()
    config = write(folder / name, "a: 1")
    assert resolve_config_path(name, str(folder)) == config
    assert read_config(config).data == {"a": 1}


@pytest.mark.parametrize(
    "client_cwd", ["", "  ", "relative/folder", ".", "a\0b", "~no-such-user/x"]
)
def test_a_client_cwd_that_is_no_absolute_path_is_refused(client_cwd: str) -> None:
    with pytest.raises(InvalidArgument, match="client_cwd"):
        resolve_config_path("train.yaml", client_cwd)


def test_a_client_cwd_that_is_missing_or_a_file_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "file", "")
    with pytest.raises(InvalidArgument, match="does not exist"):
        resolve_config_path("train.yaml", str(tmp_path / "gone"))
    with pytest.raises(InvalidArgument, match="is not a folder"):
        resolve_config_path("train.yaml", str(file))


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that may not be entered."""
    folder = tmp_path / "closed"
    folder.mkdir()
    write(folder / "train.yaml", "a: 1")
    folder.chmod(0o000)
    if os.access(folder, os.X_OK):
        pytest.skip("this person may enter every folder")
    yield folder
    folder.chmod(0o700)


def test_a_client_cwd_that_cannot_be_entered_is_refused(closed: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"client_cwd .* \(permission denied\)"):
        resolve_config_path("train.yaml", str(closed))
    with pytest.raises(InvalidArgument, match=r"client_cwd .* \(Permission denied\)"):
        resolve_config_path("train.yaml", f"{closed}/sub")


def test_a_config_in_a_closed_folder_is_not_found_with_the_reason(closed: Path) -> None:
    with pytest.raises(
        ConfigNotFound, match=r"train\.yaml cannot be looked up \(Permission denied\)"
    ):
        resolve_config_path(f"{closed}/train.yaml", str(closed.parent))
    assert "Permission denied" in error_of(closed / "train.yaml")


@pytest.mark.parametrize("config_path", ["", " ", "a\0b", "~no-such-user/train.yaml"])
def test_a_config_path_that_is_no_path_is_refused(tmp_path: Path, config_path: str) -> None:
    with pytest.raises(InvalidArgument, match="config_path"):
        resolve_config_path(config_path, str(tmp_path))


def test_a_missing_config_names_those_that_are_close(tmp_path: Path) -> None:
    write(tmp_path / "train.yaml", "a: 1")
    write(tmp_path / "notes.txt", "")
    with pytest.raises(ConfigNotFound, match=r"Did you mean train\.yaml\?"):
        resolve_config_path("trian.yaml", str(tmp_path))
    with pytest.raises(ConfigNotFound, match=r"has train\.yaml"):
        resolve_config_path("quite-different", str(tmp_path))
    with pytest.raises(ConfigNotFound, match="starts from client_cwd"):
        resolve_config_path("no/such/folder/x.yaml", str(tmp_path))
    with pytest.raises(ConfigNotFound, match="File name too long"):
        resolve_config_path("x" * 300, str(tmp_path))


def test_a_config_is_read_as_oumi_reads_it(tmp_path: Path) -> None:
    text = "lr: 1e-4\nbig: 1.5E6\nday: 2020-01-01\nyes: on\nbase: &b {x: 1}\nmore: {<<: *b, y: 2}\n"
    config = read_config(write(tmp_path / "c.yaml", text))
    assert config.data == {
        "lr": 1e-4,
        "big": 1.5e6,
        "day": "2020-01-01",
        "True": True,
        "base": {"x": 1},
        "more": {"x": 1, "y": 2},
    }
    assert (config.text, config.kind, config.path) == (
        text,
        ConfigKind.COMMAND,
        tmp_path / "c.yaml",
    )


@pytest.mark.parametrize("text", ["run: echo", "setup: echo", "resources: {cloud: local}"])
def test_a_config_with_resources_setup_or_run_is_a_job_config(tmp_path: Path, text: str) -> None:
    assert read_config(write(tmp_path / "job.yaml", text)).kind is ConfigKind.JOB


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: [1, 2\nb: 3\n", "line 2, column 2"),
        ("a: 1\n b: 2\n", "line 2, column 3"),
        ("a: 1\nb: {x: 1,\n  x: 2}\n", "line 3, column 3: the key 'x' is given twice"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1, column 4"),
        ("a: *nowhere\n", "line 1, column 4"),
        ("a: @x\n", "line 1, column 4"),
        ("a: \x00\n", "not valid YAML"),
        ("a: !!int x\n", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("? [a, b]\n: 1\n", "line 1, column 3"),
        ("[" * 500_000, "nested more than 64 levels"),
        ("a: " + "{a: " * 70 + "1" + "}" * 70, "nested more than 64 levels"),
    ],
)
def test_bad_yaml_is_named_with_its_place(tmp_path: Path, text: str, where: str) -> None:
    message = error_of(write(tmp_path / "bad.yaml", text))
    assert message.startswith("INVALID_CONFIG: ")
    assert where in message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "holds a list"),
        ("just text", "holds a single value"),
        (b"a: \xff\xfe", "is not UTF-8 text (byte 3)"),
        (b"a" * (MAX_CONFIG_BYTES + 1), "too large"),
        ("a: &a [*a]\n", "more than 100,000 values"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{y}: &{y} [{','.join([f'*{x}'] * 10)}]\n" for x, y in pairwise("abcde")),
            "more than 100,000 values",
        ),
    ],
)  # fmt: skip
def test_what_is_no_config_is_refused(tmp_path: Path, content: str | bytes, problem: str) -> None:
    message = error_of(write(tmp_path / "c.yaml", content))
    assert message.startswith("INVALID_CONFIG: ")
    assert problem in message


def test_a_folder_a_pipe_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert "is a folder" in error_of(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in error_of(tmp_path / "pipe")
    assert error_of(tmp_path / "gone.yaml").startswith("CONFIG_NOT_FOUND: ")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert error_of(tmp_path / "dangling").startswith("CONFIG_NOT_FOUND: ")


def test_an_unreadable_file_is_not_found_with_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "a: 1")
    path.chmod(0o000)
    if os.access(path, os.R_OK):
        pytest.skip("this person may read every file")
    message = error_of(path)
    assert message.startswith("CONFIG_NOT_FOUND: ")
    assert "Permission denied" in message


def test_a_read_that_fails_is_not_found_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "c.yaml", "a: 1")
    monkeypatch.setattr(os, "open", refuse)
    assert "cannot be read (Permission denied)" in error_of(path)


def test_a_snapshot_is_read_back_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    config = read_config(write(tmp_path / "c.yaml", "a: 日本\r\n"))
    snapshots = tmp_path / "home" / "configs"
    sha256 = save_snapshot(config.text, snapshots)
    assert save_snapshot(config.text, snapshots) == sha256 == config.sha256
    (tmp_path / "c.yaml").unlink()
    kept = load_snapshot(sha256, snapshots)
    assert kept.model_copy(update={"path": config.path}) == config
    (file,) = snapshots.iterdir()
    assert kept.path == file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(snapshots.stat().st_mode) == 0o700


def test_a_snapshot_that_is_gone_changed_or_misnamed_is_refused(tmp_path: Path) -> None:
    sha256 = save_snapshot("a: 1", tmp_path)
    (tmp_path / f"{sha256}.yaml").write_text("a: 2")
    with pytest.raises(InvalidConfig, match="was changed"):
        load_snapshot(sha256, tmp_path)
    with pytest.raises(ConfigNotFound, match="no longer kept"):
        load_snapshot("0" * 64, tmp_path)
    with pytest.raises(InvalidArgument, match="not a SHA-256"):
        load_snapshot("../../etc/passwd", tmp_path)


def test_a_snapshot_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_snapshot("a: 1", tmp_path)
    assert list(tmp_path.iterdir()) == []
