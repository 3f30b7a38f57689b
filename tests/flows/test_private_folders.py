"""Files of ours: whole, and for their owner alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.core.private_files import write_private


def test_of_writers_at_once_none_fails_and_the_file_is_that_of_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    texts = [f"{number}" * 10_000 for number in range(10)] * 20
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda text: write_private(path, text), texts))
    assert path.read_text() in texts
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "file", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
