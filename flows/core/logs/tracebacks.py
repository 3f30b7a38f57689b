"""Read the exceptions that programs printed into a log, as the chains that Python prints.

Ranks of a distributed job write at the same time: lines that carry a rank are read rank by rank.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_PREFIX: Final = re.compile(
    r"^(?:\[(?P<rank>\w+\d+)\]:? ?"
    r"|(?P<process>\((?:\w+ )?pid=\d+\)) (?:[A-Z]+ [\d:. -]+\[[\w.:]+\] ?)?)"
)
"""Marks of the process that wrote a line: torchrun's, and those of Ray and vLLM."""
_HEADER: Final = re.compile(r"Traceback \(most recent call last\)")
_LINK: Final = re.compile(
    r"The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:"
)
_RAISED: Final = re.compile(r"[A-Za-z_][\w.]*(?:: .*|:)?")
_FRAME: Final = re.compile(r'\s+File "(?P<file>[^"]+)", line (?P<line>\d+)')
_SIDE: Final = re.compile(r"^(?:Exception ignored in|Exception ignored while)\b")
_BOX: Final = "│╭╰"
"""The first character of a line of a traceback that rich prints."""
_NO_DETAIL: Final = re.compile(
    r"^(?:\[[WEI]\d|[WEI]\d{4} |Exception ignored|\s*\d{1,3}%\||\{'"
    r"|srun: |slurmstepd: |ERROR: Job \d+ failed with return code)"
)
"""Begins of lines that belong to no message: of torch's own log, a progress bar, metrics, Slurm's
and SkyPilot's own about the end of a job."""
_DETAILS: Final = 12
_FIRST_LINES: Final = 4
"""A frame within so many first lines belongs to a traceback that began before them."""
_FRAMES: Final = 60


class Raised(NamedTuple):
    """An exception as it was printed."""

    error: str
    """Its first line: its name and what it says."""
    details: tuple[str, ...] = ()
    """The further lines of what it says."""
    files: tuple[str, ...] = ()
    """The files that were running, the innermost last."""

    @property
    def text(self) -> str:
        """All that it says."""
        return "\n".join([self.error, *self.details])


@dataclass
class Chain:
    """Exceptions that were printed as one, the first cause first.

    Attributes:
        start: Index of its first line.
        end: Index of its last line.
        rank: The mark of the process that wrote it; empty: none.
        is_side: Whether it was raised aside, while Python cleaned up.
        links: The exceptions.
    """

    start: int
    end: int
    rank: str = ""
    is_side: bool = False
    links: list[Raised] = field(default_factory=list[Raised])


def strip_prefix(line: str) -> tuple[str, str]:
    """Split a line into the mark of the process that wrote it and the rest."""
    match = _PREFIX.match(line)
    if not match:
        return "", line
    return match["rank"] or match["process"], line[match.end() :]


def read_chains(lines: Sequence[str]) -> list[Chain]:
    """Read the chains of exceptions in a log, in the order of their ends."""
    streams: dict[str, list[tuple[int, str]]] = {}
    for at, line in enumerate(lines):
        rank, text = strip_prefix(line)
        streams.setdefault(rank, []).append((at, text))
    found = [chain for rank, part in streams.items() for chain in _Reader(rank).read(part)]
    return sorted((chain for chain in found if chain.links), key=lambda chain: chain.end)


def _is_cut(lines: Sequence[str]) -> bool:
    """Whether lines are those of a traceback whose header is above them."""
    first = next((line for line in lines if _HEADER.search(line) or _FRAME.match(line)), "")
    return bool(_FRAME.match(first))


class _Reader:
    """Reads the lines of one process."""

    def __init__(self, rank: str) -> None:
        self._rank = rank
        self._chain: Chain | None = None
        self._files: list[str] = []
        self._in_traceback = False
        self._is_linked = False
        self._details = 0

    def read(self, lines: Sequence[tuple[int, str]]) -> Iterator[Chain]:
        """Read the chains, each when the next one begins."""
        before = ""
        if _is_cut([line for _, line in lines[:_FIRST_LINES]]):
            self._begin(lines[0][0], is_side=False)
        for at, line in lines:
            if _LINK.match(line.strip()):
                self._is_linked, self._in_traceback, self._details = True, False, 0
            elif _HEADER.search(line):
                if self._chain and not self._is_linked:
                    yield self._chain
                self._begin(at, is_side=bool(_SIDE.match(before)))
            elif line.strip():
                self._take(at, line)
            before = line
        if self._chain:
            yield self._chain

    def _begin(self, at: int, *, is_side: bool) -> None:
        if self._chain is None or not self._is_linked:
            self._chain = Chain(at, at, self._rank, is_side)
        self._in_traceback, self._is_linked = True, False
        self._files, self._details = [], 0

    def _take(self, at: int, line: str) -> None:
        if self._chain is None:
            return
        if self._in_traceback:
            self._take_traceback(self._chain, at, line)
        elif self._details and not self._is_linked:
            self._details = 0 if _NO_DETAIL.match(line) else self._details - 1
            if self._details:
                last = self._chain.links[-1]
                self._chain.links[-1] = last._replace(details=(*last.details, line.strip()))

    def _take_traceback(self, chain: Chain, at: int, line: str) -> None:
        frame = _FRAME.match(line)
        if frame:
            self._files = [*self._files[-_FRAMES:], frame["file"]]
        elif line[0] not in " \t" + _BOX:
            self._in_traceback = False
            if _RAISED.fullmatch(line.rstrip()):
                chain.links.append(Raised(line.rstrip(), (), tuple(self._files)))
                chain.end = at
                self._details = _DETAILS
