"""Write out ``~`` and variables in a command's output paths, once, before anything runs.

The libraries differ in what they expand. Transformers 5.16 expands ``~`` in ``output_dir``; Oumi
0.9, which writes metrics and telemetry there, does not. Neither expands ``$HOME``, and Oumi reads
``${oc.env:HOME}`` of a file as a folder of that name.
"""

import os
import re
from collections.abc import Callable, Mapping
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
    Command.JUDGE: ("output_path",),
    Command.ANALYZE: ("output_path",),
    Command.QUANTIZE: ("output_path",),
}
"""Keys of the files and folders that a command writes or resumes from (oumi 0.9)."""

# A lower-case ${name} is an OmegaConf reference to a missing key: everything keeps it unchanged.
_VARIABLE: Final = re.compile(
    r"\$(?:\{(?![a-z_][a-z\d_]*\})(?P<inner>[^{}]*)\}|(?P<name>[A-Za-z_]\w*))"
)
_OC_ENV: Final = re.compile(r"oc\.env:\s*(?P<name>\w+)\s*(?:,(?P<default>.*))?")
_DEEPEST: Final = 5


def is_plain(path: str) -> bool:
    """Whether all readers of a path interpret it in the same way."""
    return not path.startswith("~") and _VARIABLE.search(path) is None


def written_out(
    data: Mapping[str, Any], command: Command, envs: Mapping[str, str]
) -> dict[str, OverrideValue]:
    """Write out the paths of a command's config that are not plain, by key.

    Args:
        data: The config, with its overrides applied.
        command: The command that reads it.
        envs: Environment variables of the job; they override those of this process.

    Raises:
        InvalidConfig: One of them cannot be written out.
    """
    found: dict[str, OverrideValue] = {}
    for key in PATH_KEYS[command]:
        path = _text(data, key)
        if not is_plain(path):
            found[key] = write_out(path, {**os.environ, **envs}, key=key, config=data)
    return found


def write_out(
    path: str, environ: Mapping[str, str], *, key: str, config: Mapping[str, Any] | None = None
) -> str:
    """Write out the variables and the home folder in a path.

    Args:
        path: The path.
        environ: The variables' values.
        key: The path's key, for the error.
        config: The config, for references to its own keys, such as ``${training.output_dir}``.

    Raises:
        InvalidConfig: A variable is not set, or a reference is not to a variable.
    """
    where = f"{key} is {path!r}"
    others: Mapping[str, Any] = {} if config is None else config

    def find_own(name: str) -> str:
        return "" if name == key else _text(others, name)

    text = _write_out_variables(path, environ, where, find_own)
    home = environ.get("HOME")
    if home and (text == "~" or text.startswith("~/")):
        return home + text[1:]
    full = os.path.expanduser(text)  # noqa: PTH111 - a path that names no home is refused below
    if full.startswith("~"):
        raise InvalidConfig(
            f"{where}, which names no home folder of this machine",
            "Write the path out, or put ./ before a folder whose name begins with ~",
        )
    return full


def _write_out_variables(
    path: str, environ: Mapping[str, str], where: str, find_own: Callable[[str], str]
) -> str:
    text = path
    for _ in range(_DEEPEST):  # a default may itself be a variable
        text = _VARIABLE.sub(lambda matched: _value(matched, environ, where, find_own), text)
    if _VARIABLE.search(text):
        raise InvalidConfig(
            f"{where}, whose variables refer to each other without end", "Write the path out"
        )
    return text


def _value(
    matched: re.Match[str], environ: Mapping[str, str], where: str, find_own: Callable[[str], str]
) -> str:
    """The value of a reference to a variable or another key; `where` begins the error."""
    name, default = matched["name"] or matched["inner"].strip(), None
    if of_environment := _OC_ENV.fullmatch(name):
        name, default = of_environment["name"], of_environment["default"]
    elif own := find_own(name):
        return own
    elif not name.isidentifier():
        raise InvalidConfig(
            f"{where}, and Oumi does not expand {matched[0]}",
            "Write the path out, or use an environment variable, as in ${oc.env:HOME}",
        )
    found = environ.get(name) or (default or "").strip().strip("'\"")
    if not found:
        raise InvalidConfig(
            f"{where}, and the environment variable {name} is not set here",
            "Set it where the job is submitted, or write the path out",
        )
    return found


def _text(data: Mapping[str, Any], key: str) -> str:
    value: object = data
    for part in key.split("."):
        if not isinstance(value, Mapping):
            return ""
        value = cast("Mapping[str, object]", value).get(part)
    return value if isinstance(value, str) else ""
