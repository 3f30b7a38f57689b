"""Paging through a log that grows: nothing twice, nothing missed."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

from flows.core.logs.pages import LogPage, read_from

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
WORDS = [
    b"loss 1.5",
    "naïve ütf-8 →".encode(),
    "漢字🙂".encode(),
    b"\x1b[31mred\x1b[0m",
    b"\xff\xfe broken \xe2\x82",
    b" 50%|##  | 30/60",
    b"\r",
    b"\r\r",
    b"\r\n",
    b"\n",
    b"\n\n",
    b"   ",
    b"x" * 70,
    b'\r::oumi-flows-progress:: {"step": 3}\r',
]


def shown(line: bytes) -> str | None:
    """What a person reads of a line, written another way than the code under test."""
    bare = re.sub(rb"\r?::oumi-flows-progress:: .*?(\r|$)", b"", line)
    if bare != line and not bare.strip():
        return None
    if b"\r" not in bare and b"\x1b" not in bare:
        return bare.decode("utf-8", "replace")
    states = [ESCAPES.sub("", part.decode("utf-8", "replace")) for part in bare.split(b"\r")]
    return ([state for state in states if state.strip()] or [""])[-1]


def lines_of(data: bytes) -> list[str]:
    raw = data.split(b"\n")
    if not raw[-1]:
        raw.pop()
    return [text for line in raw if (text := shown(line)) is not None]


def read_all(path: Path, offset: int = 0, **kwargs: Any) -> list[str]:
    texts: list[str] = []
    while True:
        page = read_from(path, offset, **{"lines": 50, **kwargs}, final=True)
        texts += page.lines
        assert page.next_offset > offset or page.at_eof
        offset = page.next_offset
        if page.at_eof:
            return texts


@pytest.mark.parametrize("seed", range(60))
def test_a_log_that_grows_in_random_pieces_is_read_line_by_line_without_loss_or_repeat(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    data = b"".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 400)))
    path = tmp_path / "log"
    path.touch()
    written = offset = 0
    texts: list[str] = []
    while written < len(data):
        size = rng.choice([1, 2, 3, 10, 100, 1000])
        with path.open("ab") as file:
            file.write(data[written : written + size])
        written += size
        for _ in range(rng.randrange(3)):
            page = read_from(path, offset, lines=rng.randrange(1, 9), max_bytes=40_000)
            texts += page.lines
            assert page.next_offset >= offset
            offset = page.next_offset
    texts += read_all(path, offset)
    assert texts == lines_of(data)


@pytest.mark.parametrize("seed", range(40))
def test_lines_longer_than_the_bound_come_in_pieces_that_join_to_the_line(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    alphabet = ["a", "é", "→", "🙂", "\n", "bc" * 20]
    text = "".join(rng.choice(alphabet) for _ in range(400))
    path = tmp_path / "log"
    path.write_text(text)
    offset, found = 0, ""
    bound = rng.choice([4, 5, 7, 32, 100])
    while True:
        page = read_from(path, offset, lines=rng.randrange(1, 5), max_bytes=bound, final=True)
        for line in page.lines:
            assert "�" not in line
            found += line
        assert page.next_offset > offset or page.at_eof
        offset = page.next_offset
        if page.at_eof:
            break
    assert found == text.replace("\n", "")


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_read_to_the_end_and_no_page_is_over_its_bound(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    path = tmp_path / "log"
    path.write_bytes(rng.randbytes(60_000))
    offset = 0
    while True:
        page = read_from(path, offset, lines=2000, max_bytes=1000, final=True)
        assert len("\n".join(page.lines).encode()) <= 1000
        assert page.next_offset > offset or page.at_eof
        offset = page.next_offset
        if page.at_eof:
            break
    assert offset == 60_000


def test_an_unfinished_line_waits_until_it_ends_or_the_job_has(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    page = read_from(path, 0, lines=10)
    assert page == LogPage(lines=["one"], next_offset=4, at_eof=True)
    assert read_from(path, 4, lines=10, final=True) == LogPage(
        lines=["tw"], next_offset=6, at_eof=True
    )
    path.write_bytes(b"one\ntwo\n")
    assert read_from(path, 4, lines=10) == LogPage(lines=["two"], next_offset=8, at_eof=True)


def test_a_page_that_is_full_says_that_there_is_more(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthree\n")
    assert read_from(path, 0, lines=2) == LogPage(lines=["one", "two"], next_offset=8, at_eof=False)
    assert read_from(path, 0, lines=9, max_bytes=8) == LogPage(
        lines=["one", "two"], next_offset=8, at_eof=False
    )


def test_a_progress_bar_without_newline_costs_no_memory_and_shows_only_its_end(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    bar = b"".join(b"\r%7d/1000000 [####      ]" % step for step in range(100_000))
    path.write_bytes(b"start\n" + bar)
    page = read_from(path, 0, lines=10)
    assert page.lines == ["start"]
    assert page.at_eof
    assert path.stat().st_size - page.next_offset < 12_000
    with path.open("ab") as file:
        file.write(b"\rdone\nend\n")
    assert read_from(path, page.next_offset, lines=10).lines == ["done", "end"]


def test_the_last_state_survives_a_bar_longer_than_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\r10%" * 200 + b"\r99%\r" + b" " * 20 + b"\n")
    assert read_all(path, max_bytes=64) == ["99%"]


def test_progress_reports_leave_no_trace(tmp_path: Path) -> None:
    report = b'\r::oumi-flows-progress:: {"event": "step", "step": 1}\r'
    path = tmp_path / "log"
    path.write_bytes(
        report + b"\r 10%|# | 1/10" + report + b"\r 20%|## | 2/10\n"
        b"half a " + report + b"line\n" + report + b"\n" + report.strip() + b"\nlast\n"
    )
    assert read_all(path) == [" 20%|## | 2/10", "half a line", "last"]


def test_a_log_that_shrank_is_read_from_its_start_and_the_page_says_so(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"new\n")
    page = read_from(path, 100, lines=10)
    assert (page.lines, page.next_offset) == (["new"], 4)
    assert "shorter" in page.note


def test_a_log_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    assert read_from(tmp_path / "log", 0, lines=10) == LogPage(lines=[], next_offset=0, at_eof=True)


def test_escape_sequences_are_not_cut_in_two_by_a_piece(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\x1b[1;31mabc\x1b[0m" * 100 + b"\x1b]0;title\x07\x9b\x00\n")
    for bound in range(20, 60):
        assert "".join(read_all(path, max_bytes=bound)) == "abc" * 100 + "�"
