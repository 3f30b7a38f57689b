"""The log of a copy: a file, as every job has one, and Prefect's log."""

import logging
from datetime import UTC, datetime
from pathlib import Path

from flows.core.private_files import make_private, open_private


class CollectionLog:
    """Writes lines of a log.

    Args:
        path: The file; it is continued after a restart.
        logger: The run's log in Prefect.
    """

    def __init__(
        self, path: Path, logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]"
    ) -> None:
        self._path = path
        self._logger = logger
        make_private(path.parent)

    def say(self, text: str) -> None:
        """Write a line."""
        self._logger.info("%s", text)
        with open_private(self._path, "ab") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}\n".encode(errors="replace"))
