"""Find secrets in a config. They are reported by key; their values are never shown."""

from collections.abc import Iterator, Mapping
from typing import Final, cast

from flows.core.checks.notes import Notes
from flows.core.findings import FindingCode
from flows.core.redaction import Redactor
from flows.core.secret_names import SHORTEST, holds_secret, is_placeholder

_FIX: Final = "Remove it from the file and set it in the environment of the worker"


def check_secrets(notes: Notes, data: Mapping[str, object]) -> None:
    """Note each key whose value is a secret."""
    redactor = Redactor()
    for key, text in _texts(data, ""):
        name = key.rpartition(".")[2].partition("[")[0]
        is_literal = len(text) >= SHORTEST and not is_placeholder(text)
        if (is_literal and holds_secret(name, text)) or redactor.text(text) != text:
            notes.warning(FindingCode.SECRET_IN_FILE, f"{key} contains a secret", _FIX, key=key)


def _texts(value: object, key: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield key, value
        case list():
            for index, item in enumerate(cast("list[object]", value)):
                yield from _texts(item, f"{key}[{index}]")
        case dict():
            for name, item in cast("dict[object, object]", value).items():
                yield from _texts(item, f"{key}.{name}" if key else str(name))
        case _:
            return
