"""Secrets written into a config. What is found is named by its key, never shown."""

import re
from collections.abc import Iterator, Mapping
from typing import Final, cast

from flows.findings import FindingCode
from flows.preflight.notes import Notes

_SHAPES: Final = re.compile(
    r"hf_[A-Za-z0-9]{30,}"
    r"|sk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}"
    r"|AIza[0-9A-Za-z_-]{35}|xox[abpr]-[0-9A-Za-z-]{10,}|gsk_[A-Za-z0-9]{30,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_NAMES: Final = re.compile(
    r"(?:^|_)(?:TOKEN|API_?KEY|SECRET(?:_KEY)?|ACCESS_KEY|PASSWORD|PASSWD|CREDENTIALS?)$",
    re.IGNORECASE,
)
_OF_TEXT: Final = re.compile(
    r"(?:^|_)(?:PAD|BOS|EOS|UNK|SEP|CLS|MASK|IMAGE|START|END|STOP|SPECIAL|PREFIX|SUFFIX)_?TOKEN$",
    re.IGNORECASE,
)
"""Tokens of a tokenizer."""

_ASSIGNED: Final = re.compile(r"\b([A-Z][A-Z0-9_]*)=(['\"]?)([^\s'\";&|]+)\2")
_PLACEHOLDER: Final = re.compile(
    r"\$|`|<.*>|^\[.*\]$|^[\w./-]+/[\w.-]+\.(?:json|pem|key|txt|ya?ml|env|p12|toml)$|^(?:x+|\*+|\.+|none|null|changeme|empty|dummy|replace.*|your.*|my[-_].*|todo.*|\?+)$"
    r"|^[~/.]",
    re.IGNORECASE,
)
_FIX: Final = "Take it out of the file and set it in the environment of the worker instead"


def check_secrets(notes: Notes, data: Mapping[str, object]) -> None:
    """Note each key whose value is a secret."""
    for key, text in _texts(data, ""):
        name = key.rpartition(".")[2]
        named = (key.startswith("envs.") or name == "api_key") and _is_secret(name)
        if _SHAPES.search(text) or (named and _is_literal(text)) or _assigns(text):
            notes.warning(
                FindingCode.SECRET_IN_FILE, f"{key} has a secret written into it", _FIX, key=key
            )


def _assigns(text: str) -> bool:
    """Whether a script assigns a literal to a variable that is named as a secret."""
    return any(
        _is_secret(matched[1]) and _is_literal(matched[3]) for matched in _ASSIGNED.finditer(text)
    )


def _is_secret(name: str) -> bool:
    return bool(_NAMES.search(name)) and not _OF_TEXT.search(name)


def _is_literal(text: str) -> bool:
    return len(text) >= 8 and not _PLACEHOLDER.search(text)


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
