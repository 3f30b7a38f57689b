"""Small files that would become large, or never end, are refused before anything is built."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.core.checks.data_files import Format, Rows, wrong_content
from flows.core.configs.reader import read_config
from flows.core.configs.yaml_text import parse_yaml
from flows.core.errors import InvalidConfig, OumiFlowsError
from flows.core.regular_files import NotRegular, TooLarge, open_regular_file, read_regular_file
from flows.core.settings import Settings
from flows.launcher.job_environment import with_job_environment
from flows.launcher.loading import load_oumi

MERGES = "\n".join(
    ["x0: &a0 {a: 1, b: 2}", *(f"x{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 27))]
)
ALIASES = "\n".join(
    ["x0: &a0 [1, 2]", *(f"x{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 27))]
)
CHAIN = "\n".join(["x0: &a0 [1]", *(f"x{n}: &a{n} [*a{n - 1}]" for n in range(1, 3000))])
LONG = f"a: &a {'x' * 100_000}\nb: [" + "*a, " * 1000 + "]"

_SFT = Format(Rows.SFT, is_strict=True)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Every refusal takes less than 3 s of processor time."""
    began = time.process_time()
    yield
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (MERGES, "expands to more than 100,000 values"),
        (ALIASES, "expands to more than 100,000 values"),
        (LONG, "expands to more than 100,000 values"),
        (CHAIN, "nested more than 64 levels"),
        ("a: &a [*a]", "expands to more than 100,000 values"),
        ("a: &a {b: {c: *a}}", "expands to more than 100,000 values"),
        ("a: &a {<<: *a}", "expands to more than 100,000 values"),
        ("a: *nowhere", "undefined alias"),
        ("a: 0x" + "f" * 6000, "this integer is too large"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: 1" + ":59" * 3000, "this integer is too large"),
        ("a: !!set {b, c}", "no config has values of type"),
        ("a: !!binary aGk=", "no config has values of type"),
        ("a: !!omap [b: 1]", "no config has values of type"),
        ("a: !!timestamp 2026-01-01", "no config has values of type"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
    ids=lambda value: value[:20],
)
def test_yaml_that_grows_is_refused_before_it_is_built(
    text: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig, match=problem):
        parse_yaml(text, "the text")
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InvalidConfig, match=problem):
        read_config(tmp_path / "c.yaml")


def test_aliases_and_merges_in_reason_are_read() -> None:
    text = "a: &a {b: 1}\nc: {<<: *a, d: 2}\ne: [*a, *a]\nf: &n 3\ng: *n\nh: 0x7fffffffffffffff"
    assert parse_yaml(text, "the text") == {
        "a": {"b": 1}, "c": {"b": 1, "d": 2}, "e": [{"b": 1}, {"b": 1}],
        "f": 3, "g": 3, "h": 2**63 - 1,
    }  # fmt: skip


def test_a_large_config_without_aliases_is_read() -> None:
    assert len(str(parse_yaml("a:\n" + "- 1\n" * 90_000, "the text"))) > 90_000


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    """What is there and is no file to read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 300_000_000)
    (tmp_path / "link to a pipe").symlink_to(tmp_path / "pipe")
    return {
        "pipe": tmp_path / "pipe",
        "link to a pipe": tmp_path / "link to a pipe",
        "zero": Path("/dev/zero"),
        "terminal": Path("/dev/tty"),
        "standard input": Path("/dev/stdin"),
        "kernel": Path("/proc/self/environ"),
        "kernel log": Path("/proc/kmsg"),
        "system": Path("/sys/kernel/mm/transparent_hugepage/enabled"),
        "folder": tmp_path,
        "large": tmp_path / "large",
    }


NAMES = (
    "pipe", "link to a pipe", "zero", "terminal", "standard input", "kernel", "kernel log",
    "system", "folder", "large",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_to_read_is_refused_at_once(name: str, odd: dict[str, Path]) -> None:
    path = odd[name]
    with pytest.raises(OumiFlowsError):
        read_config(path)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - one of several
        read_regular_file(path, limit=1_000_000)
    if path.exists():
        assert isinstance(caught.value, TooLarge if name == "large" else NotRegular)
    if name != "large":
        with pytest.raises(OSError):  # noqa: PT011
            open_regular_file(path)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "standard input"])
def test_a_list_of_modules_that_is_no_list_is_refused_at_once(
    name: str, odd: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = odd[name]
    if not path.exists():
        pytest.skip("this machine has none")
    envs = f"resources: {{cloud: local}}\nenvs: {{OUMI_EXTRA_DEPS_FILE: {path}}}\nrun: x"
    with pytest.raises(InvalidConfig, match="OUMI_EXTRA_DEPS_FILE names"):
        with_job_environment(envs, key="k", settings=Settings(home=tmp_path / "home"))
    monkeypatch.setenv("OUMI_EXTRA_DEPS_FILE", str(path))
    with pytest.raises(InvalidConfig, match="OUMI_EXTRA_DEPS_FILE names"):
        load_oumi()


def test_data_that_is_no_file_is_refused_at_once(odd: dict[str, Path], tmp_path: Path) -> None:
    for name in ("pipe", "zero"):
        link = tmp_path / f"{name}.jsonl"
        link.symlink_to(odd[name])
        assert wrong_content(link, _SFT) == "which is neither a file nor a folder"
    (tmp_path / "deep.jsonl").write_text("[" * 50_000 + "\n")
    assert wrong_content(tmp_path / "deep.jsonl", _SFT) == "whose line 1 is not JSON"
    (tmp_path / "digits.jsonl").write_text('{"messages": ' + "9" * 5000 + "}\n")
    assert "line 1" in wrong_content(tmp_path / "digits.jsonl", _SFT)
