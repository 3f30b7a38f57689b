"""The outermost edge of a command: any failure becomes one line and an exit code."""

import errno
import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pydantic import ValidationError

from flows.core.errors import ErrorCode, InternalError, InvalidArgument, OumiFlowsError
from flows.core.redaction import own_redactor
from flows.core.settings import Settings
from mcp_server.cli.exits import EXIT_OF_ERROR, Exit
from mcp_server.cli.words import in_terminal_words
from mcp_server.inert_text import inert_json, one_line, visible

_UNWRITABLE: Final = frozenset({errno.EBADF, errno.EFBIG, errno.EIO, errno.ENOSPC})
_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"


def run_guarded(action: Callable[[Settings], int], *, as_json: bool = False) -> int:
    """Run a command.

    Args:
        action: The command; returns its exit code.
        as_json: Whether to write an error as JSON.

    Returns:
        The exit code.
    """
    debug = False
    _prepare_streams()
    try:
        settings = _settings()
        debug = settings.debug
        code = action(settings)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return Exit.PIPE_CLOSED
    except OumiFlowsError as error:
        line = in_terminal_words(own_redactor().text(str(error)))
        return _tell(error.code, line, as_json=as_json, debug=debug)
    except Exception as error:  # noqa: BLE001 - the outermost edge of the process
        if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
            _drop_output()
            line = f"The output could not be written ({error.strerror})\n"
            with suppress(OSError):
                sys.stderr.write(line)
            return Exit.OTHER
        defect = InternalError(
            f"A defect in oumi-flows ({type(error).__name__}: {error})",
            "Set OUMI_FLOWS_DEBUG=1 to see where it is, and report it",
        )
        return _tell(defect.code, own_redactor().text(str(defect)), as_json=as_json, debug=debug)
    return code


def _prepare_streams() -> None:
    """Make the standard streams accept any text that a command writes.

    Python has none where the descriptor was closed, and the next file that is opened would get its
    number. A character that the terminal's encoding lacks must not fail a command.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Discard unwritten output, which the interpreter would write again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = f"OUMI_FLOWS_{first['loc'][0]}".upper()
        raise InvalidArgument(
            f"The environment variable {name} cannot be used ({first['msg']})",
            "Correct or unset it",
        ) from error


def _tell(code: ErrorCode, line: str, *, as_json: bool, debug: bool) -> Exit:
    """Write the line of an error to standard error; an exception must be under way."""
    if debug:
        sys.stderr.write(visible(traceback.format_exc()))
    if as_json:
        message = line.removeprefix(f"{code}: ")
        error = {"error": {"code": code, "message": message}}
        sys.stderr.write(inert_json(json.dumps(error, ensure_ascii=False)) + "\n")
        return EXIT_OF_ERROR[code]
    line = one_line(line)
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        line = f"{_RED}{line}{_PLAIN}"
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
    return EXIT_OF_ERROR[code]
