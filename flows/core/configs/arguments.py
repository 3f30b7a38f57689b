"""Write the command line of an Oumi command, with overrides in the syntax of Oumi 0.9."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flows.core.configs.overrides import ANALYZE_OPTIONS
from flows.core.configs.schema import JUDGE_OPTIONS
from flows.core.configs.yaml_text import escape_interpolation, quote, reads_as
from flows.core.models import Command, OverrideValue

_PLAIN_OPTIONS: Final[dict[Command, frozenset[str]]] = {
    Command.EVALUATE: frozenset({"output_dir"}),
    Command.INFER: frozenset({"input_path", "output_path"}),
    Command.SYNTH: frozenset({"output_path"}),
}
"""Keys whose option takes plain text; all others are read as YAML."""

_SHADOWED: Final = frozenset({"method"})
"""Keys with an option (of quantize) that has no effect when set to its default."""


def command_line(
    command: Command,
    config_path: Path,
    overrides: Mapping[str, OverrideValue],
    *,
    output_path: str,
) -> list[str]:
    """Write the arguments that run `command` with checked overrides.

    Args:
        command: The Oumi command.
        config_path: The config it reads.
        overrides: The dotted keys that replace the config's values.
        output_path: The output path of the config with its overrides.
    """
    words = ["judge", "dataset"] if command is Command.JUDGE else [command.value]
    argv = ["oumi", *words, "-c", str(config_path)]
    if command is Command.QUANTIZE:
        # Without the option its default replaces the config's output_path.
        argv.append(f"--output={output_path}")
        overrides = {key: value for key, value in overrides.items() if key != "output_path"}
    return argv + [_argument(command, key, value) for key, value in overrides.items()]


def _argument(command: Command, key: str, value: OverrideValue) -> str:
    if command is Command.ANALYZE:
        return f"{ANALYZE_OPTIONS[key]}={value}"
    if key in _PLAIN_OPTIONS.get(command, ()) and value is not None:
        return f"--{key}={value}"
    if command is Command.JUDGE and key in JUDGE_OPTIONS:
        return f"{JUDGE_OPTIONS[key]}={value}"
    text = _yaml(value)
    is_plain = isinstance(value, list) or text == str(value)
    if key in _SHADOWED or not is_plain:
        # Oumi declares options for some keys, and their types accept neither null, true nor
        # quotes. With its first part in brackets a key matches no option and means the same.
        head, dot, rest = key.partition(".")
        key = f"[{head}]{dot}{rest}"
    return f"--{key}={text}"


def _yaml(value: OverrideValue) -> str:
    """Write `value` as YAML on one line that Oumi reads back unchanged."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            text = escape_interpolation(value)
            return text if reads_as(text, text) and text == text.strip() else quote(text)
        case list():
            return f"[{', '.join(_item(item) for item in value)}]"
        case float() if not math.isfinite(value):
            return {"inf": ".inf", "-inf": "-.inf"}.get(str(value), ".nan")
        case _:
            return repr(value)


def _item(value: str | float | None) -> str:
    return quote(escape_interpolation(value)) if isinstance(value, str) else _yaml(value)
