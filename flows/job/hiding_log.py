"""A run's log without secrets. Prefect keeps every line and shows it to its users."""

import logging
import traceback
from typing import Any

from flows.core.redaction import Redactor


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
