"""The tail of a log, however large."""

import random
import tracemalloc
from pathlib import Path

import pytest

from flows.core.logs.pages import LogPage, read_from, read_tail

MIB = 2**20


def test_the_tail_is_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(100_000)))
    page = read_tail(path, lines=2)
    assert page == LogPage(
        lines=["line 99998", "line 99999"], next_offset=path.stat().st_size, at_eof=True
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_tail_and_the_pages_after_it_are_the_end_of_the_whole_log(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    words = ["a", "é\n", "→\r", "\n", "x" * 50, "\r\n", "🙂"]
    data = "".join(rng.choice(words) for _ in range(300)).encode() + b"\n"
    cut = rng.randrange(len(data))
    path = tmp_path / "log"
    path.write_bytes(data[:cut])
    tail = read_tail(path, lines=5)
    path.write_bytes(data)
    rest = read_from(path, tail.next_offset, lines=2000)
    whole = read_from(path, 0, lines=2000, max_bytes=10**6).lines
    assert whole[len(whole) - len(tail.lines) - len(rest.lines) :] == tail.lines + rest.lines
    assert rest.at_eof


def test_an_unfinished_line_is_left_for_the_next_page(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthr")
    assert read_tail(path, lines=5) == LogPage(lines=["one", "two"], next_offset=8, at_eof=True)
    assert read_tail(path, lines=5, final=True).lines == ["one", "two", "thr"]


def test_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"older\nold\nnew\nnewer\n")
    page = read_tail(path, lines=3, max_bytes=9)
    assert page == LogPage(
        lines=["new", "newer"], next_offset=20, truncated=True, cut_bytes=3, at_eof=True
    )
    assert read_tail(path, lines=1, max_bytes=2) == LogPage(
        lines=["er"], next_offset=20, truncated=True, cut_bytes=3, at_eof=True
    )


def test_a_log_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "log", lines=10) == LogPage(lines=[], next_offset=0, at_eof=True)


def test_300_mb_without_a_newline_are_tailed_in_bounded_time_and_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(290 * MIB)
        file.seek(0, 2)
        file.write(("é" * 10_000_000).encode())
    page = _bounded_tail(path)
    assert page.next_offset == path.stat().st_size
    (line,) = page.lines
    assert line == "é" * 6000
    assert page.truncated
    assert page.cut_bytes > MIB
    with path.open("ab") as file:
        file.write("é!\n".encode())
    assert read_from(path, page.next_offset, lines=5).lines == ["é!"]


def test_1_gb_is_tailed_in_bounded_time_and_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(1024 * MIB)
        file.seek(0, 2)
        file.write(b"\n" + b"".join(b"line %d\n" % n for n in range(100)))
    assert _bounded_tail(path).lines == [f"line {n}" for n in range(20, 100)]


def test_an_old_bar_of_many_megabytes_is_folded_to_its_last_state(tmp_path: Path) -> None:
    path = tmp_path / "log"
    bar = b"".join(b"\r%7d/1000000 [####      ]" % step for step in range(100_000))
    path.write_bytes(b"before\n" + bar + b"\nafter\n")
    page = _bounded_tail(path)
    assert page.lines == ["before", "  99999/1000000 [####      ]", "after"]
    assert not page.truncated


def _bounded_tail(path: Path) -> LogPage:
    """The tail, read in memory that the file's size is not in."""
    tracemalloc.start()
    try:
        page = read_tail(path, lines=80)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
    return page
