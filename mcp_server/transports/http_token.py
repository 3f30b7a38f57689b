"""The bearer token that every request to the MCP server over HTTP carries."""

import secrets
import string
from contextlib import suppress
from pathlib import Path
from typing import Final

from flows.core.errors import InvalidArgument
from flows.core.private_files import is_private, read_or_make
from flows.core.settings import Settings

MIN_LENGTH: Final = 16
"""Guesses of fewer random characters are within reach of a program on the same machine."""

_FILE: Final = "http-token"
_RANDOM_BYTES: Final = 32
_IN_A_HEADER: Final = frozenset(string.ascii_letters + string.digits + string.punctuation + " ")


def token_path(settings: Settings) -> Path:
    """The file of the token that we make if none is set."""
    return settings.home / _FILE


def http_token(settings: Settings) -> str:
    """Return the token that is set, else the one of this home, which the first call makes.

    Raises:
        InvalidArgument: The one that is set is too short or cannot be sent in a header, or the
            file cannot be read or made.
    """
    if settings.http_token is None:
        return _token_of_home(token_path(settings))
    fault = _fault_of(settings.http_token)
    if fault is not None:
        raise InvalidArgument(
            f"The token in OUMI_FLOWS_HTTP_TOKEN {fault}",
            f"Set it to {MIN_LENGTH} or more random characters, or unset it to have one made",
        )
    return settings.http_token


def _token_of_home(path: Path) -> str:
    try:
        with suppress(FileNotFoundError):
            # Others may have read it.
            if not is_private(path):
                path.unlink()
        return read_or_make(
            path,
            make=lambda: secrets.token_urlsafe(_RANDOM_BYTES),
            accept=lambda text: _fault_of(text) is None,
        )
    except OSError as error:
        raise InvalidArgument(
            f"The token cannot be kept in {path} ({error.strerror or error})",
            "Make its folder writable, or set OUMI_FLOWS_HTTP_TOKEN",
        ) from error


def _fault_of(token: str) -> str | None:
    if not token.strip():
        return "is blank"
    if token != token.strip() or not _IN_A_HEADER.issuperset(token):
        return "has white space at an end, or characters that an HTTP header cannot carry"
    if len(token) < MIN_LENGTH:
        return f"has {len(token)} characters; {MIN_LENGTH} is the least"
    return None
