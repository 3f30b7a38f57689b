"""Searching a log with patterns of strangers."""

import re
from pathlib import Path

import pytest

from flows.core.errors import InvalidArgument
from flows.core.logs.pages import LogPage, read_from, read_tail
from flows.core.logs.search import LogSearch


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"step %d loss %d\n" % (n, n % 7) for n in range(100_000)))
    return path


def test_the_tail_of_the_lines_that_match(log: Path) -> None:
    page = read_tail(log, lines=2, grep=r"loss [23]$")
    assert page.lines == ["step 99997 loss 2", "step 99998 loss 3"]
    assert page.next_offset == log.stat().st_size
    assert not page.truncated


def test_pages_of_the_lines_that_match_miss_none(log: Path) -> None:
    offset, texts = 0, []
    while True:
        page = read_from(log, offset, lines=37, grep=r"^step \d+99 ")
        texts += page.lines
        offset = page.next_offset
        if page.at_eof:
            break
    assert texts == [f"step {n} loss {n % 7}" for n in range(199, 100_000, 100)]


def test_a_match_is_sought_in_what_a_person_reads(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"10% error\r100% ok\n\x1b[31mERR\x1b[0mOR \xff\n")
    assert read_tail(path, lines=9, grep="error").lines == []
    assert read_tail(path, lines=9, grep="ERROR").lines == ["ERROR �"]


def test_nothing_found_is_an_empty_page(log: Path) -> None:
    assert read_tail(log, lines=5, grep="absent") == LogPage(
        lines=[], next_offset=log.stat().st_size, at_eof=True
    )


@pytest.mark.parametrize("pattern", ["(", "[", "*a", "(?P<n>", "(" * 900, "a{2,1}", "\ud800("])
def test_a_pattern_that_is_none_is_refused(log: Path, pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="not a regular expression"):
        read_tail(log, lines=5, grep=pattern)


def test_a_pattern_that_is_too_long_is_refused_even_for_an_empty_log(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="1001 characters"):
        read_tail(tmp_path / "log", lines=5, grep="a" * 1001)
    with pytest.raises(InvalidArgument, match="not a regular expression"):
        read_from(tmp_path / "log", 0, lines=5, grep="(")


def test_a_pattern_with_a_newline_matches_nothing(log: Path) -> None:
    assert read_tail(log, lines=5, grep="loss 1\nstep").lines == []


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|a)*b", r".*.*.*.*.*.*=x"])
def test_a_pattern_that_would_backtrack_for_ever_is_answered(tmp_path: Path, pattern: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 5000 + b"!\n" + b"ab=x\n")
    found = [line for line in ("a" * 5000 + "!", "ab=x") if re.search(pattern, line[-4:])]
    assert read_tail(path, lines=5, grep=pattern).lines == found


@pytest.mark.parametrize(
    ("pattern", "uses"),
    [
        ("(?=a)", "a look-ahead, (?=,"),
        ("(?!a)", "a look-ahead, (?!,"),
        ("(?<=a)b", "a look-behind, (?<=,"),
        ("(?<!a)b", "a look-behind, (?<!,"),
        (r"(a)\1", r"a back reference, \1,"),
        ("(?P<n>a)(?P=n)", "a back reference, (?P,"),
        ("(?>a)", "an atomic group, (?>,"),
        ("(a)?(?(1)b|c)", "a condition, (?(,"),
        ("(?x)a b", "(?x,"),
        (r"\Aa", r"\A,"),
        (r"\\\z", r"\z,"),
        (r"a\Z", r"\Z,"),
    ],
)
def test_what_is_not_supported_is_named(log: Path, pattern: str, uses: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(f"uses {uses} which is not supported")):
        read_tail(log, lines=5, grep=pattern)


@pytest.mark.parametrize("pattern", ["a.{900}c", "|".join(f"a.{{{n}}}c" for n in range(60, 99))])
def test_a_pattern_that_would_take_seconds_a_line_is_refused(log: Path, pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="too much time"):
        read_tail(log, lines=5, grep=pattern)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("^b$", ["b"]),
        ("^$", [""]),
        ("", ["a", "", "b", r"c\A", "é"]),
        (r"[^x]\s*[^x]", [r"c\A"]),
        ("(?s:.)b", []),
        (r"\\A", [r"c\A"]),
        ("^.$", ["a", "b", "é"]),
    ],
)
def test_each_line_is_searched_by_itself(tmp_path: Path, pattern: str, found: list[str]) -> None:
    path = tmp_path / "log"
    path.write_text("a\n\nb\nc\\A\né\n")
    assert read_tail(path, lines=9, grep=pattern or "(?:)").lines == found


def test_a_message_with_half_a_character_is_searched() -> None:
    lines = [(1, "loss \ud800"), (2, "step")]
    assert list(LogSearch("loss").matching(lines)) == [(1, "loss \ud800"), (2, None)]


def test_a_search_that_takes_long_says_how_far_it_looked() -> None:
    ticks = iter([0.0, 100.0])
    search = LogSearch("absent", clock=lambda: next(ticks))
    lines = [(n, "x" * 10_000) for n in range(1000)]
    seen = list(search.matching(lines))
    assert search.gave_up
    assert len(seen) == 7


def test_a_long_search_stops_and_the_next_page_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"needle one\n")
        file.truncate(70 * 2**20)
        file.seek(0, 2)
        file.write(b"\nneedle two\n")
    tail = read_tail(path, lines=2, grep="needle")
    assert (tail.lines, tail.truncated) == (["needle two"], True)
    assert "32 MiB" in tail.note
    first = read_from(path, 0, lines=9, grep="needle")
    assert (first.lines, first.at_eof) == (["needle one"], False)
    offset, texts = first.next_offset, []
    while True:
        page = read_from(path, offset, lines=9, grep="needle")
        texts += page.lines
        offset = page.next_offset
        if page.at_eof:
            break
    assert texts == ["needle two"]
