"""The outermost edge of a command: whatever goes wrong becomes one line and an exit code."""

import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from flows.errors import InternalError, InvalidArgument, OumiFlowsError
from flows.settings import Settings
from mcp_server.cli.exits import EXIT_OF_ERROR, Exit

_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"

_COMMAND_OF_TOOL: Final = {
    "run_oumi_job": "run",
    "get_job_status": "show",
    "wait_for_job": "watch",
    "get_job_logs": "logs",
    "cancel_job": "cancel",
    "list_jobs": "jobs",
    "retry_job": "retry",
}
_TOOL = re.compile(rf"\b({'|'.join(_COMMAND_OF_TOOL)})\b")


def guarded(action: Callable[[Settings], int], *, as_json: bool = False) -> int:
    """Run a command.

    Args:
        action: The command; returns its exit code.
        as_json: Whether an error is told as JSON.

    Returns:
        The exit code.
    """
    debug = False
    try:
        settings = _settings()
        debug = settings.debug
        code = action(settings)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes standard output once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED
    except OumiFlowsError as error:
        return _tell(error, as_json=as_json, debug=debug)
    except Exception as error:  # noqa: BLE001 - the outermost edge of the process
        defect = InternalError(
            f"A defect in oumi-flows ({type(error).__name__}: {error})",
            "Set OUMI_FLOWS_DEBUG=1 to see where it is, and report it",
        )
        return _tell(defect, as_json=as_json, debug=debug)
    return code


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


def _tell(error: OumiFlowsError, *, as_json: bool, debug: bool) -> Exit:
    """Write an error to standard error; an exception must be under way."""
    if debug:
        traceback.print_exc()
    line = _TOOL.sub(lambda tool: f"`oumi-flows {_COMMAND_OF_TOOL[tool[1]]}`", str(error))
    if as_json:
        message = line.removeprefix(f"{error.code}: ")
        line = json.dumps({"error": {"code": error.code, "message": message}}, ensure_ascii=False)
    elif sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        line = f"{_RED}{line}{_PLAIN}"
    sys.stderr.write(f"{line}\n")
    return EXIT_OF_ERROR[error.code]
