"""Cursors, and the line that says why a job failed."""

import base64
from pathlib import Path

import pytest

from flows.core.errors import InvalidArgument
from flows.core.logs.pages import LogCursor, decode_cursor, encode_cursor, error_tail, last_error


@pytest.mark.parametrize("cursor", [LogCursor(1, 0), LogCursor(12, 10**15)])
def test_a_cursor_comes_back_as_it_went(cursor: LogCursor) -> None:
    word = encode_cursor(cursor)
    assert decode_cursor(word) == cursor
    assert word.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "word",
    ["", "x", "!!!!", "naïve", "1:0", "MTow\n", "MTow MTow", "a" * 10_000]
    + [
        base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        for text in ["0:1", "1:-1", "1:", "1:1:1", "1:" + "9" * 30, " 1:1", "\u0661:1", "1:1\n"]
    ],
)
def test_a_word_that_is_no_cursor_is_refused_with_what_to_do(word: str) -> None:
    with pytest.raises(InvalidArgument, match="Pass next_cursor"):
        decode_cursor(word)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([], None),
        (["all is well", "no Error here", "INFO: fine"], None),
        (["ValueError: first", "  at x", "KeyError: 'second'", "bye"], "KeyError: 'second'"),
        (["Error: Config file not found"], "Error: Config file not found"),
        (["torch.OutOfMemoryError: CUDA"], "torch.OutOfMemoryError: CUDA"),
        (["[rank0]: RuntimeError: NCCL"], "RuntimeError: NCCL"),
        (["OSError: disk", "torch.distributed.errors.ChildFailedError: "], "OSError: disk"),
        (["Traceback (most recent call last):", "AssertionError"], "AssertionError"),
        (["  my.pkg.SomeException: x  "], "my.pkg.SomeException: x"),
    ],
)
def test_the_last_error_of_a_log(lines: list[str], error: str | None) -> None:
    assert last_error(lines) == error


def test_the_error_tail_is_the_end_of_the_log_even_without_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(100)) + b"Killed")
    assert error_tail(path, lines=3) == "line 98\nline 99\nKilled"
    assert error_tail(tmp_path / "absent") == ""
