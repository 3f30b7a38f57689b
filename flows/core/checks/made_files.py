"""The files that a shell command makes, by what the command is known to do."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final, NamedTuple

OUMI_FETCH: Final = "~/.oumi/fetch"
"""Where ``oumi fetch`` of Oumi 0.9 puts configs."""


class Made(NamedTuple):
    """The files that a command makes, as its words name them."""

    folders: tuple[str, ...] = ()
    """Folders that are empty at first."""
    files: tuple[str, ...] = ()
    """Files, and folders with their content."""
    anything: bool = False
    """Whether it may make any other file."""
    is_unknown: bool = False
    """Whether the command is none of those that are known here."""


_GIT_MAKES_NOTHING: Final = frozenset(
    {"add", "branch", "commit", "config", "describe", "diff", "fetch", "log", "push", "remote",
     "rev-parse", "status"}
)  # fmt: skip
_ANYTHING: Final = Made(anything=True)


def files_made(words: list[str]) -> Made:
    """The files that a command makes, without those that its output is redirected to.

    Args:
        words: The command, without commands that only run it.
    """
    name = PurePosixPath(words[0]).name
    make = _MAKERS.get(name)
    return make(words) if make else Made(is_unknown=True)


def _arguments(words: list[str]) -> list[str]:
    return [word for word in words[1:] if not word.startswith("-")]


def _value(words: list[str], *names: str) -> str:
    """The value of the first of these options that a command has."""
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in names:
            return value if equals else "".join(words[index + 1 : index + 2])
        short = next((name for name in names if len(name) == 2 and word.startswith(name)), "")
        if short and not word.startswith("--") and word != short:
            return word[2:]
    return ""


def _all(words: list[str]) -> Made:
    return Made(files=tuple(_arguments(words)))


def _folders(words: list[str]) -> Made:
    return Made(folders=tuple(_arguments(words)))


def _last(words: list[str]) -> Made:
    """A copy: its target, or a file of each source's name in it."""
    target = _value(words, "-t", "--target-directory")
    arguments = _arguments(words)
    if not target and len(arguments) < 2:
        return Made(files=tuple(PurePosixPath(each).name for each in arguments))
    sources, target = (arguments, target) if target else (arguments[:-1], arguments[-1])
    if any(re.search(r"[*?$]", source) for source in sources):
        return Made(files=(target,), anything=target.rstrip("/") in (".", ""))
    if target.rstrip("/") in (".", ""):
        return Made(files=tuple(PurePosixPath(source).name for source in sources))
    return Made(files=(target,))


def _copy_from_store(words: list[str]) -> Made:
    """A download of ``aws s3``, ``gsutil`` and their like."""
    if not any(word in ("cp", "copy", "sync", "rsync", "mv") for word in words):
        return Made()
    is_whole_folder = any(
        word in ("sync", "rsync", "-r", "-R", "--recursive", "copy") for word in words
    )
    target = words[-1]
    if re.match(r"[a-z0-9]+://", target):
        return Made()
    if target.rstrip("/") in (".", "") and is_whole_folder:
        return _ANYTHING
    return _last(["cp", *words[-2:]])


def _git(words: list[str]) -> Made:
    command = next((word for word in words[1:] if not word.startswith("-")), "")
    if command == "clone":
        rest = [word for word in words[words.index("clone") + 1 :] if not word.startswith("-")]
        urls = [place for place, word in enumerate(rest) if re.search(r"[/:]", word)]
        if not urls:
            return _ANYTHING
        after = rest[urls[0] + 1 : urls[0] + 2]
        target = after[0] if after else PurePosixPath(rest[urls[0]].rstrip("/")).name
        return _ANYTHING if target in (".", "./") else Made(files=(target.removesuffix(".git"),))
    return Made() if command in _GIT_MAKES_NOTHING else _ANYTHING


def _wget(words: list[str]) -> Made:
    if any(re.match(r"-(r|m|i)|--(recursive|mirror|input-file)", word) for word in words[1:]):
        return _ANYTHING
    output = _value(words, "-O", "--output-document")
    if output:
        return Made(files=() if output == "-" else (output,))
    folder = _value(words, "-P", "--directory-prefix")
    names = [_name_of(word) for word in _arguments(words) if "/" in word and word != folder]
    return Made(files=tuple(f"{folder}/{name}" if folder else name for name in names))


def _curl(words: list[str]) -> Made:
    output = _value(words, "-o", "--output") or next(
        (after for word, after in pairwise(words) if re.fullmatch(r"-[a-zA-Z]*o", word)),
        "",
    )
    if output:
        return Made(files=(output,))
    if any(re.fullmatch(r"-[a-zA-Z]*O[a-zA-Z]*|--remote-name(-all)?", word) for word in words):
        return Made(files=tuple(_name_of(word) for word in _arguments(words) if "/" in word))
    return Made()


def _hub(words: list[str]) -> Made:
    if "download" not in words:
        return Made()
    folder = _value(words, "--local-dir", "--cache-dir")
    return Made() if not folder else _ANYTHING if folder in (".", "./") else Made(files=(folder,))


def _oumi(words: list[str]) -> Made:
    if words[1:2] != ["fetch"]:
        return Made(is_unknown=True)
    folder = _value(words, "-o", "--output-dir") or OUMI_FETCH
    paths = [word for word in words[2:] if not word.startswith("-") and word != folder]
    return Made(files=tuple(f"{folder}/{re.sub('^oumi://', '', path)}" for path in paths[:1]))


def _environment(words: list[str]) -> Made:
    """A virtual environment of ``uv`` or ``python -m venv``."""
    if "run" in words[1:2]:
        return _ANYTHING
    if words[1:3] == ["-m", "pip"]:
        return Made()
    if "venv" not in words:
        return Made(is_unknown=True)
    places = [word for word in words[words.index("venv") + 1 :] if not word.startswith("-")]
    return Made(files=(places[-1] if places else ".venv",))


def _name_of(url: str) -> str:
    return PurePosixPath(re.sub(r"[?#].*", "", url)).name or "index.html"


_MAKERS: Final[dict[str, Callable[[list[str]], Made]]] = {
    "mkdir": _folders,
    "touch": _all,
    "tee": _all,
    "cp": _last,
    "mv": _last,
    "ln": _last,
    "scp": _last,
    "install": _last,
    "aws": _copy_from_store,
    "gsutil": _copy_from_store,
    "gcloud": _copy_from_store,
    "rclone": _copy_from_store,
    "azcopy": _copy_from_store,
    "s3cmd": _copy_from_store,
    "git": _git,
    "wget": _wget,
    "curl": _curl,
    "hf": _hub,
    "huggingface-cli": _hub,
    "oumi": _oumi,
    "uv": _environment,
    "conda": _environment,
    "mamba": _environment,
    "virtualenv": lambda words: Made(files=tuple(_arguments(words))),
    "python": _environment,
    "python3": _environment,
}
