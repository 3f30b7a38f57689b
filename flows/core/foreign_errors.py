"""The places that catch every error: what libraries raise that raise anything, and defects of ours.

Nothing else does, except the outermost edges of processes. What an error means is the caller's to
say.
"""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from flows.core.errors import OumiFlowsError

_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@contextmanager
def translate_foreign(make: Callable[[Exception], Exception]) -> Generator[None]:
    """Turn every error besides our own into another one.

    Args:
        make: Makes it.

    Raises:
        Exception: What `make` made, from the error.
    """
    try:
        yield
    except OumiFlowsError:
        raise
    except Exception as error:
        raise make(error) from error


@contextmanager
def note_defects(note: Callable[[Exception], object]) -> Generator[None]:
    """End the block at any error, and go on after it.

    For what only adds to a job, and must not decide how it ends.

    Args:
        note: Notes the error, as in a log.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - see above
        note(error)


def error_of(call: Callable[[], object]) -> Exception | None:
    """Call something that may raise any error; return the error."""
    found: list[Exception] = []
    with note_defects(found.append):
        call()
    return found[0] if found else None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without colours; its type if it has no text."""
    lines = without_colours(str(error)).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def without_colours(text: str) -> str:
    """A text without what colours it in a terminal."""
    return _COLOUR.sub("", text)
