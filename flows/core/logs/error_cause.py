"""Find why a job failed, from the end of its log: the most useful error, not the last line.

Python prints a chain of exceptions with the first cause first, and frameworks end it with a vague
one, such as "An error occurred while generating the dataset".
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from flows.core.logs.pages import last_error

CAUSE_LINES: Final = 400
"""How many last lines of a log are searched for a chain of exceptions."""
_NEAR_LINES: Final = 20
"""How many last lines of a log can hold the error that ended the job."""
_LINE_LENGTH: Final = 2000
_ERROR_LENGTH: Final = 400

_RANK: Final = re.compile(r"^\[\w+\d+\]:? ?")
_HEADER: Final = re.compile(r"Traceback \(most recent call last\)")
_LINK: Final = re.compile(
    r"The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:"
)
_RAISED: Final = re.compile(r"[A-Za-z_][\w.]*(?:: .*)?")
_BOX: Final = "│╭╰"
"""The first character of a line of a traceback that rich prints."""
_NO_SPACE: Final = re.compile(
    r"No space left on device|\[Errno 28\]|os error 28|Disk quota exceeded|\[Errno 122\]"
)
_HALF_WRITTEN: Final = re.compile(r"unexpected pos \d+ vs \d+|PytorchStreamWriter failed writing")
"""Torch's errors for a checkpoint that it could not write completely (torch 2.10,
caffe2/serialize/inline_container.cc)."""
_PLACE: Final = (
    re.compile(r"(?:No space left on device|Disk quota exceeded)[^']{0,20}: '([^']+)'"),
    re.compile(r"'([^']+)': (?:No space left on device|Disk quota exceeded)"),
)
_NAMES: Final = re.compile(r"[\d/'\"`]")
"""Characters of an error that names a row, a file or a key."""
_GPU_MEMORY: Final = re.compile(r"(?:\w+\.)*OutOfMemoryError: .*")


class Cause(NamedTuple):
    """Why a job failed."""

    text: str
    is_out_of_memory: bool
    """Whether the error that ended the job says that a GPU had too little memory."""


def find_cause(lines: Sequence[str], *, output_dir: str = "") -> Cause | None:
    """Find the cause of a failure in the last lines of a log; None if they name none.

    Args:
        lines: The last lines, `CAUSE_LINES` of them or fewer.
        output_dir: The job's output folder, for a full disk whose path the log does not name.
    """
    clean = [_RANK.sub("", line[:_LINE_LENGTH]) for line in lines]
    chains = _chains(clean)
    near = clean[-_NEAR_LINES:]
    last = last_error(near) or _last_raised(chains, since=len(clean) - len(near))
    links = next((chain.links for chain in reversed(chains) if last in chain.links), list[str]())
    disk = _full_disk([*links, *near], output_dir)
    if last is None:
        return Cause(disk, is_out_of_memory=False) if disk else None
    text = _best(links) if len(links) > 1 else last[:_ERROR_LENGTH]
    is_out_of_memory = any(_GPU_MEMORY.fullmatch(error) for error in links or [last])
    return Cause(f"{disk} {text}".strip(), is_out_of_memory=is_out_of_memory)


class _Chain(NamedTuple):
    """Exceptions that were printed as one chain, the first cause first."""

    links: list[str]
    end: int
    """The index of the line with the last of them."""


def _chains(lines: Sequence[str]) -> list[_Chain]:
    chains: list[_Chain] = []
    is_linked = in_traceback = False
    for at, line in enumerate(lines):
        if _LINK.match(line.strip()):
            is_linked, in_traceback = bool(chains), False
        elif _HEADER.search(line):
            in_traceback = True
            if not is_linked:
                chains.append(_Chain([], at))
        elif in_traceback and line.strip() and line[0] not in " \t" + _BOX:
            in_traceback = is_linked = False
            if _RAISED.fullmatch(line.rstrip()):
                chains[-1] = _Chain([*chains[-1].links, line.rstrip()], at)
    return chains


def _last_raised(chains: Sequence[_Chain], *, since: int) -> str | None:
    """The last exception of any name, if it is near the end of the log."""
    near = [chain for chain in chains if chain.links and chain.end >= since]
    return near[-1].links[-1] if near else None


def _best(links: Sequence[str]) -> str:
    """The most informative exception of a chain, and the last one."""
    first, last = links[0][:_ERROR_LENGTH], links[-1][:_ERROR_LENGTH]
    if first == last:
        return last
    if _NAMES.search(last) and not _NAMES.search(first):
        return f"{last} (after {first})"
    return f"{first} (then {last})"


def _full_disk(lines: Sequence[str], output_dir: str) -> str:
    """Say that a disk was full, and where; empty if no line says so."""
    full = [line for line in lines if _NO_SPACE.search(line)]
    if not full and not any(map(_HALF_WRITTEN.search, lines)):
        return ""
    found = (match[1] for line in full for place in _PLACE if (match := place.search(line)))
    where = next(found, output_dir)
    what = "The disk is full" if full else "The disk is full, or a file could not be written whole"
    return f"{what}: {where}." if where else f"{what}."
