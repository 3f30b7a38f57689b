"""Secret environment variables of jobs: in private files, so that Prefect has references only."""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flows.core.errors import InvalidArgument, InvalidConfig
from flows.core.private_files import write_private
from flows.core.redaction import is_secret_override
from flows.core.regular_files import read_regular_file

CARRIED: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY",
                  "ANTHROPIC_API_KEY", "GEMINI_API_KEY")  # fmt: skip
"""Variables of the process that submits a job which the job gets, too."""

_REFERENCE: Final = re.compile(r"oumi-flows-(?P<kind>private|carried):(?P<digest>[0-9a-f]{32})")
KEY_FILE: Final = "key"
_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_BYTES: Final = 200_000


def find_references(text: str) -> set[str]:
    """Find the digests of the values that a text refers to, such as a run's parameters."""
    return {matched["digest"] for matched in _REFERENCE.finditer(text)}


def is_reference(value: str) -> bool:
    """Whether a variable's value stands for one in a private file."""
    return _REFERENCE.fullmatch(value) is not None


class PrivateEnvs:
    """The values of secret variables, each in a file that only its owner can read.

    Args:
        folder: The folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hide(self, envs: Mapping[str, str]) -> dict[str, str]:
        """Keep the secrets among variables, and put references in their places.

        Raises:
            InvalidArgument: A name or a value cannot be set.
        """
        hidden: dict[str, str] = {}
        for name, value in envs.items():
            if not _NAME.fullmatch(name) or "\0" in value:
                raise InvalidArgument(
                    f"envs has an entry that cannot be set: {name!r}", "Rename it, or correct it"
                )
            is_secret = is_secret_override(name, value) and not is_reference(value)
            hidden[name] = self._keep(value, "private") if is_secret else value
        return hidden

    def carry(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Keep the chosen variables of an environment, and give references to them."""
        given = {name: environ[name] for name in CARRIED if environ.get(name, "").strip()}
        return {name: self._keep(value, "carried") for name, value in given.items()}

    def reveal(self, envs: Mapping[str, str]) -> dict[str, str]:
        """Put the values in the places of references; carried ones that are not here are left out.

        Raises:
            InvalidConfig: A value is not on this machine.
        """
        revealed: dict[str, str] = {}
        for name, text in envs.items():
            matched = _REFERENCE.fullmatch(text)
            if matched is None:
                revealed[name] = text
                continue
            try:
                revealed[name] = self._read(matched["digest"])
            except OSError as error:
                if matched["kind"] == "private":
                    raise InvalidConfig(
                        f"the value of the variable {name} is not kept on this machine",
                        "Submit the job again, or set it in the worker's environment",
                    ) from error
        return revealed

    def _read(self, digest: str) -> str:
        path = self._folder / digest
        value = read_regular_file(path, limit=_BYTES).decode()
        _mark_used(path)
        return value

    def values_of(self, envs: Mapping[str, str]) -> list[str]:
        """The secrets that variables refer to, as far as they are here."""
        references = {name: text for name, text in envs.items() if is_reference(text)}
        found: list[str] = []
        for name, text in references.items():
            try:
                found += self.reveal({name: text}).values()
            except InvalidConfig:
                continue
        return found

    def _keep(self, value: str, kind: str) -> str:
        # The same value has the same name, which tells nothing of it without the key.
        digest = hmac.new(self._key(), value.encode(), hashlib.sha256).hexdigest()[:32]
        path = self._folder / digest
        if not _mark_used(path):
            write_private(path, value)
        return f"oumi-flows-{kind}:{digest}"

    def _key(self) -> bytes:
        path = self._folder / KEY_FILE
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return read_regular_file(path, limit=_BYTES)


def _mark_used(path: Path) -> bool:
    """Note on a value's file that it was used now; False if there is none."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
