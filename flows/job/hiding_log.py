"""A run's log without secrets. Prefect keeps every line and shows it to its users."""

import logging
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flows.core.redaction import Redactor, own_secrets, ways_of_writing
from flows.core.secret_marks import keep_marks, read_marks


class HidingLogger(logging.LoggerAdapter[Any]):
    """Passes lines on without the secrets in them.

    Args:
        logger: Where lines go.
        redactor: What to hide; replace it when more secrets are known.
    """

    def __init__(
        self, logger: "logging.Logger | logging.LoggerAdapter[Any]", redactor: Redactor
    ) -> None:
        super().__init__(logger, {})
        self.redactor = redactor

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a line, with the traceback of an exception as part of its text."""
        if not self.isEnabledFor(level):
            return
        text = str(msg) % args if args else str(msg)
        error = kwargs.pop("exc_info", None)
        if error:
            text = f"{text}\n{_traceback(error)}"
        self.logger.log(level, "%s", self.redactor.text(text), **kwargs)


def _traceback(error: object) -> str:
    if isinstance(error, BaseException):
        return "".join(traceback.format_exception(error)).rstrip()
    return traceback.format_exc().rstrip()


def build_redactor(
    secrets: Iterable[str], home: Path, logger: "logging.Logger | logging.LoggerAdapter[Any]"
) -> Redactor:
    """Build the redactor of all known secrets, and keep marks of the worker's own. Blocking.

    Args:
        secrets: Those of the job.
        home: OUMI_FLOWS_HOME, with the marks of other workers and of the server that submitted.
        logger: Receives a warning if the marks cannot be kept.
    """
    inherited = own_secrets()
    try:
        keep_marks(ways_of_writing(inherited), home)
    except OSError as error:
        logger.warning("The marks of secrets were not kept: %s", error)
    return Redactor([*inherited, *secrets], marks=read_marks(home))
