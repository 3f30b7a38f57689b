"""Reads families and sizes of models from their names."""

import re
from typing import Final

_VERSION: Final = re.compile(r"-?(\d+(?:\.\d+)?)(?![\d.]*[bm](?![a-z]))(?!\d)")
_WORDS: Final = re.compile(r"[a-z]+(?:-[a-z]+)*")
_SIZE: Final = re.compile(r"(?<![\d.a-z])(\d+(?:\.\d+)?[bm])(?![a-z])")


def family_of(model_name: str) -> str:
    """Read the family with its version, such as ``llama3.1`` or ``smollm2``; empty: not a name."""
    name = model_name.strip().rstrip("/").rpartition("/")[2].lower().replace("_", "-")
    name = name.removeprefix("meta-")
    words = _WORDS.match(name)
    if not words:
        return ""
    # The shortest first words with a version after them: deepseek-r, 1.
    for end in (match.end() for match in re.finditer(r"[a-z](?=[-\d]|$)", words[0])):
        if version := _VERSION.match(name, end):
            return name[:end] + version[1]
    if _SIZE.match(name[words.end() :].lstrip("-")):
        return words[0]
    return words[0].partition("-")[0]


def base_of(family: str) -> str:
    """Return the family without its version."""
    return family.rstrip("0123456789.")


def size_of(model_name: str) -> str:
    """Read the number of parameters in the name, such as ``8b``; empty: there is none."""
    found = _SIZE.search(model_name.lower())
    return found[1] if found else ""
