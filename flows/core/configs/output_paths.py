"""Where a command writes, with ``~`` and variables written out: once, before anything runs.

Nothing behind us agrees on them. Transformers 5.16 expands ``~`` in ``output_dir``; Oumi 0.9, which
writes metrics and telemetry there, does not. Neither expands ``$HOME``, and Oumi reads
``${oc.env:HOME}`` of a file as a folder of that name.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from flows.core.errors import InvalidConfig
from flows.core.models import Command, OverrideValue

PATH_KEYS: Final[dict[Command, tuple[str, ...]]] = {
    Command.TRAIN: (
        "training.output_dir",
        "training.logging_dir",
        "training.telemetry.telemetry_dir",
        "training.profiler.save_dir",
        "training.resume_from_checkpoint",
    ),
    Command.TUNE: (
        "tuning.output_dir",
        "tuning.logging_dir",
        "tuning.telemetry.telemetry_dir",
    ),
    Command.EVALUATE: ("output_dir",),
    Command.INFER: ("output_path", "progress_path"),
    Command.SYNTH: (
        "output_path",
        "inference_config.output_path",
        "inference_config.progress_path",
    ),
    Command.ANALYZE: ("output_path",),
    Command.QUANTIZE: ("output_path",),
}
"""Keys of the files and folders that a command writes, or goes on from (oumi 0.9)."""

# A lower-case ${name} is a reference of OmegaConf to no key there is: all take it as it stands.
_VARIABLE: Final = re.compile(
    r"\$(?:\{(?![a-z_][a-z\d_]*\})(?P<inner>[^{}]*)\}|(?P<name>[A-Za-z_]\w*))"
)
_OC_ENV: Final = re.compile(r"oc\.env:\s*(?P<name>\w+)\s*(?:,(?P<default>.*))?")
_DEEPEST: Final = 5


def is_plain(path: str) -> bool:
    """Whether a path means the same to all who read it."""
    return not path.startswith("~") and _VARIABLE.search(path) is None


def written_out(
    data: Mapping[str, Any], command: Command, envs: Mapping[str, str]
) -> dict[str, OverrideValue]:
    """The paths of a command's config that are not plain, written out, by their keys.

    Args:
        data: The config, its overrides applied.
        command: The command that reads it.
        envs: Environment that the job is given over that of this process.

    Raises:
        InvalidConfig: One of them cannot be written out.
    """
    found: dict[str, OverrideValue] = {}
    for key in PATH_KEYS[command]:
        path = _text(data, key)
        if not is_plain(path):
            found[key] = write_out(path, {**os.environ, **envs}, key=key)
    return found


def write_out(path: str, environ: Mapping[str, str], *, key: str) -> str:
    """A path with its variables and its home folder written out.

    Args:
        path: The path.
        environ: The variables' values.
        key: What the path is, for the error.

    Raises:
        InvalidConfig: A variable is not set, or a reference is to something else.
    """

    def value(matched: re.Match[str]) -> str:
        name, default = matched["name"] or matched["inner"].strip(), None
        if of_environment := _OC_ENV.fullmatch(name):
            name, default = of_environment["name"], of_environment["default"]
        elif not name.isidentifier():
            raise InvalidConfig(
                f"{key} is {path!r}, and Oumi does not fill in {matched[0]}",
                "Write the path out, or use an environment variable, as in ${oc.env:HOME}",
            )
        found = environ.get(name) or (default or "").strip().strip("'\"")
        if not found:
            raise InvalidConfig(
                f"{key} is {path!r}, and the environment variable {name} is not set here",
                "Set it where the job is submitted, or write the path out",
            )
        return found

    text = path
    for _ in range(_DEEPEST):  # a default may itself be a variable
        text = _VARIABLE.sub(value, text)
    if _VARIABLE.search(text):
        raise InvalidConfig(f"{key} is {path!r}, whose variables have no end", "Write the path out")
    home = environ.get("HOME")
    if home and (text == "~" or text.startswith("~/")):
        return home + text[1:]
    full = os.path.expanduser(text)  # noqa: PTH111 - what names no home is refused below
    if full.startswith("~"):
        raise InvalidConfig(
            f"{key} is {path!r}, which names no home folder of this machine",
            "Write the path out, or put ./ before a folder whose name begins with ~",
        )
    return full


def _text(data: Mapping[str, Any], key: str) -> str:
    value: object = data
    for part in key.split("."):
        if not isinstance(value, Mapping):
            return ""
        value = cast("Mapping[str, object]", value).get(part)
    return value if isinstance(value, str) else ""
