"""The messages on standard input; a line that is no message gets an error as its answer."""

import fcntl
import io
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import anyio.to_thread
import pydantic_core
from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter
from pydantic import ValidationError

MOST_BYTES: Final = 4 * 2**20
"""Of one message; as much as the SDK takes over HTTP (`DEFAULT_MAX_REQUEST_BODY_SIZE`, mcp 2.3)."""
_ABOVE_STANDARD: Final = 3

Answer = Callable[[JSONRPCError], Awaitable[None]]


def take_standard_input() -> io.BufferedReader:
    """Take the client's end of standard input; from now on it is empty for all other code."""
    descriptor = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return os.fdopen(descriptor, "rb")


class StdioLines:
    """The lines that hold a message, one by one.

    The SDK (mcp 2.3) drops the others in silence, reads a line of any length, and replaces bytes
    that are not UTF-8.

    Args:
        file: What a client writes.
        most_bytes: Of one line.
    """

    def __init__(self, file: io.BufferedReader, *, most_bytes: int = MOST_BYTES) -> None:
        self._file = file
        self._most_bytes = most_bytes
        self._answer: Answer | None = None

    def answer_with(self, answer: Answer) -> None:
        """Set the function that sends the client the error of a line."""
        self._answer = answer

    def __aiter__(self) -> "StdioLines":
        return self

    async def __anext__(self) -> str:
        while line := await anyio.to_thread.run_sync(self._read):
            if not line.strip():
                continue
            error = _find_error(line) if len(line) <= self._most_bytes else self._too_long()
            if error is None:
                return line.decode()
            if self._answer is not None:
                await self._answer(error)
        raise StopAsyncIteration

    def _read(self) -> bytes:
        """The next line; of one that is too long the beginning, longer than a line may be."""
        line = rest = self._file.readline(self._most_bytes + 1)
        while len(line) > self._most_bytes and rest and not rest.endswith(b"\n"):
            rest = self._file.readline(self._most_bytes)
        return line

    def _too_long(self) -> JSONRPCError:
        return _error(PARSE_ERROR, f"Parse error: a message is at most {self._most_bytes:,} bytes")


def _find_error(line: bytes) -> JSONRPCError | None:
    """What is wrong with a line; None: it is a message."""
    try:
        jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError:
        pass
    else:
        return None
    try:
        value: object = pydantic_core.from_json(line)
    except ValueError as error:
        return _error(PARSE_ERROR, f"Parse error: {error}")
    if not isinstance(value, dict):
        return _error(PARSE_ERROR, "Parse error: a message is one JSON object on one line")
    said = cast("dict[str, Any]", value).get("id")
    number = said if isinstance(said, str | int) and not isinstance(said, bool) else None
    return _error(INVALID_REQUEST, "Invalid request: this is no JSON-RPC 2.0 message", id=number)


def _error(code: int, message: str, *, id: str | int | None = None) -> JSONRPCError:  # noqa: A002 - JSON-RPC's name
    return JSONRPCError(jsonrpc="2.0", id=id, error=ErrorData(code=code, message=message))
