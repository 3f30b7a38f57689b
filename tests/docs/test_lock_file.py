"""The lock file pins every package by version and hash and names no index."""

import re

from tests.support.stack import REPOSITORY

LOCK = (REPOSITORY / "requirements.lock").read_text()
ENTRIES = re.split(r"\n(?=\S)", LOCK.strip())


def test_every_package_is_pinned_with_hashes() -> None:
    entry = re.compile(
        r"[a-z0-9][a-z0-9._-]*==\S+( ; [^\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\\n)?)+"
    )
    assert [text for text in ENTRIES if not entry.fullmatch(text)] == []


def test_no_index_is_named() -> None:
    assert "://" not in LOCK
    assert "--index" not in LOCK
    assert "--find-links" not in LOCK
