"""Secrets in logs: wherever a page starts or ends, and whatever is searched for."""

import os
import random
import string
import time
from pathlib import Path

import pytest

from flows.core.logs.masking import MaskedLog
from flows.core.logs.pages import error_tail, read_from, read_tail
from flows.core.redaction import Redactor, ways_of_writing
from flows.core.secret_marks import FILE, keep_marks, read_marks
from flows.core.secret_shapes import long_words

SECRET = "correct-horse-battery-7"
TOKEN = "hf_AbCdEfGhIjKl0123456789"
REDACTOR = Redactor([SECRET])


def _pieces(text: str, size: int = 4) -> set[str]:
    return {text[at : at + size] for at in range(len(text) - size + 1)}


def _leaks(shown: str) -> set[str]:
    return {part for part in _pieces(SECRET) | _pieces(TOKEN) if part in shown}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    lines = [f"step {n} with {SECRET} and {TOKEN} in it" for n in range(20)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_cursor_into_the_middle_of_a_secret_shows_nothing_of_it(log: Path) -> None:
    for offset in range(200):
        page = read_from(log, offset, lines=2, redactor=REDACTOR)
        assert not _leaks("\n".join(page.lines)), offset


def test_a_long_line_is_paged_across_secrets_without_showing_any(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(f"é {SECRET} {TOKEN} " * 30 + "\n")
    for room in range(4, 60):
        offset, shown = 0, ""
        while not (
            page := read_from(path, offset, lines=1, max_bytes=room, redactor=REDACTOR)
        ).at_eof:
            shown += "".join(page.lines)
            offset = page.next_offset
        shown += "".join(page.lines)
        assert not _leaks(shown), room
        assert shown.count("é") == 30


def test_a_tail_that_is_cut_inside_a_secret_shows_nothing_of_it(log: Path) -> None:
    for room in range(4, 120):
        page = read_tail(log, lines=3, max_bytes=room, redactor=REDACTOR)
        assert not _leaks("\n".join(page.lines)), room
    long = log.with_name("long")
    long.write_text(f"ValueError: {'x' * 3960} {SECRET} is wrong")
    assert not _leaks(error_tail(long, redactor=REDACTOR))


@pytest.mark.parametrize("pattern", ["horse", "hf_", "c[a-z]+-h", "AbCd", "with [^c]+ and"])
def test_a_search_meets_only_what_is_shown(log: Path, pattern: str) -> None:
    found = read_tail(log, lines=99, grep=pattern, redactor=REDACTOR).lines
    on = read_from(log, 0, lines=99, grep=pattern, redactor=REDACTOR).lines
    assert (len(found), len(on)) == ((20, 20) if "[^c]" in pattern else (0, 0))


def test_a_line_that_is_still_written_does_not_show_how_a_secret_begins(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for written in range(4, len(SECRET)):
        path.write_text("x" * 30 + " " + SECRET[:written])
        page = read_from(path, 0, lines=9, max_bytes=20, redactor=REDACTOR)
        rest = read_from(
            path, page.next_offset, lines=9, max_bytes=20, final=True, redactor=REDACTOR
        )
        assert not _leaks("".join([*page.lines, *rest.lines]))


def test_a_secret_is_hidden_between_colours_and_reports(tmp_path: Path) -> None:
    path = tmp_path / "log"
    report = '\r::oumi-flows-progress:: {"step": 1}\r'
    path.write_text(
        f"a \x1b[31m{SECRET[:9]}\x1b[0m{SECRET[9:]} b\nc {TOKEN[:9]}{report}{TOKEN[9:]} d\n"
        f"1%\r{SECRET} 100%\n"
    )
    shown = read_tail(path, lines=9, redactor=REDACTOR).lines
    assert shown == ["a *** b", "c *** d", "*** 100%"]


def test_a_private_key_is_hidden_line_by_line_wherever_reading_starts(tmp_path: Path) -> None:
    body = ["".join(random.Random(n).choices(string.ascii_letters, k=64)) for n in range(50)]
    key = ["-----BEGIN PRIVATE KEY-----", *body, "-----END PRIVATE KEY-----"]
    path = tmp_path / "log"
    path.write_text("\n".join(["before", *key, "after"]) + "\n")
    for offset in (0, 7, 60, 1000, 3000):
        page = read_from(path, offset, lines=99)
        assert not any(line[:20] in "\n".join(page.lines) for line in body)
        assert page.lines[-1] == "after"
    assert read_tail(path, lines=2).lines == ["***", "after"]
    assert len(read_from(path, 0, lines=99).lines) == len(key) + 2


def test_secrets_of_a_worker_are_hidden_by_the_marks_that_it_left(tmp_path: Path) -> None:
    secrets = [SECRET, "0123456789abcdef0123456789abcdef01234567", "p'a ss/w\"ord&1"]
    keep_marks(secrets, tmp_path)
    keep_marks([*secrets, "another-one-9"], tmp_path)
    kept = (tmp_path / FILE).read_text()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert not any(part in kept for secret in secrets for part in _pieces(secret, 5))
    path = tmp_path / "log"
    path.write_text(
        "\n".join(f"a {secret} bx{secret}y" for secret in secrets) + "\nanother-one-9\n"
    )
    redactor = Redactor(marks=read_marks(tmp_path))
    assert read_tail(path, lines=9, redactor=redactor).lines == ["a *** bx***y"] * 3 + ["***"]
    assert read_tail(path, lines=9, grep="0123", redactor=redactor).lines == []


def test_secrets_that_are_not_ascii_are_hidden_in_logs_and_texts(tmp_path: Path) -> None:
    secrets = ["pässwörd-öü12", "byte-\udcff-secret-5"]
    keep_marks(secrets, tmp_path)
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"a %s\n" % os.fsencode(secret) for secret in secrets))
    for redactor in (Redactor(marks=read_marks(tmp_path)), Redactor(secrets)):
        assert read_tail(path, lines=9, redactor=redactor).lines == ["a ***"] * 2
        assert redactor.text(f"a {secrets[0]}") == "a ***"
        assert redactor.text("lone \ud800-surrogate-9") == "lone \ud800-surrogate-9"
    assert Redactor(["half-\ud800-a-pair"]).text("half-\ud800-a-pair!") == "***!"


@pytest.mark.parametrize(
    "text", ["", "{", '{"key": "00", "marks": [{"shape": "(", "digest": ""}]}']
)
def test_marks_that_cannot_be_read_are_made_again(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert read_marks(tmp_path) is None
    keep_marks([SECRET], tmp_path)
    marks = read_marks(tmp_path)
    assert marks is not None
    assert Redactor(marks=marks).text(f"a {SECRET}") == "a ***"


def test_marks_find_exactly_the_secrets_that_stand_in_a_text(tmp_path: Path) -> None:
    draw = random.Random(5)
    secrets = {"".join(draw.choices("ab1_-/ é", k=draw.randint(8, 12))) for _ in range(300)}
    secrets |= {"".join(draw.choices("aB1_", k=draw.randint(8, 12))) for _ in range(50)}
    keep_marks(sorted(secrets), tmp_path)
    marks = read_marks(tmp_path)
    assert marks is not None
    hits = 0
    for _ in range(200):
        near = [*draw.sample(sorted(secrets), 3), "\u2028", "-a_", "\n", "aB", "\ud800"]
        text = "".join(draw.choices(near, k=8))[draw.randint(0, 5) :]
        expected = {secret for secret in secrets if secret in text}
        assert set(marks.found(text, long_words(text))) == expected, text
        hits += len(expected)
    assert hits > 200
    for before in (0, 505, 520, 3000):
        text = f"{'a' * before}a1_b1_ab"
        keep_marks(["aa1_b1_ab", "a" * 509 + "a1"], tmp_path)
        again = read_marks(tmp_path)
        assert again is not None
        expected = {part for part in ("aa1_b1_ab", "a" * 509 + "a1") if part in text}
        assert set(again.found(text, text)) - secrets == expected


@pytest.mark.parametrize("between", ["\n", " "])
def test_what_is_masked_does_not_depend_on_where_reading_starts_and_ends(
    tmp_path: Path, between: str
) -> None:
    draw = random.Random(6)
    words = [SECRET, TOKEN, "--token 7f3a9b21c4", "https://user:pa55word@host/x", "loss 1.25"]
    words += [
        "marked/secret-88",
        "key keys passed author",
        "\x1b[31mred\x1b[0m",
        "é\r",
        "API_KEY=z9",
    ]
    keep_marks(["marked/secret-88"], tmp_path)
    redactor = Redactor([SECRET], marks=read_marks(tmp_path))
    raw = between.join(draw.choices(words, k=6000)).encode()
    path = tmp_path / "log"
    path.write_bytes(raw)
    whole = redactor.mask(raw, is_open=True)
    assert SECRET.encode() not in whole
    assert b"marked" not in whole
    with path.open("rb") as file:
        log = MaskedLog(file, len(raw), redactor)
        for _ in range(20):
            start = draw.randrange(len(raw))
            log.seek(start)
            for size in (1, draw.randint(2, 99), draw.randint(100, 20_000)):
                assert log.read(size) == whole[start : start + size], (start, size)
                start = min(len(raw), start + size)


def test_a_line_of_megabytes_is_read_quickly_whatever_secrets_a_worker_has(tmp_path: Path) -> None:
    draw = random.Random(7)
    letters = string.ascii_letters + string.digits
    secrets = ["".join(draw.choices(letters + "-/+=", k=40)) for _ in range(20)]
    keep_marks(ways_of_writing(secrets), tmp_path)
    redactor = Redactor(secrets, marks=read_marks(tmp_path))
    path = tmp_path / "log"
    path.write_bytes(b"x" * 2**22)

    def seconds() -> float:
        began = time.process_time()
        assert read_tail(path, lines=80, redactor=redactor).truncated
        assert not read_from(path, 0, lines=80, redactor=redactor).at_eof
        return time.process_time() - began

    assert min(seconds() for _ in range(3)) < 0.25
