"""Find why a job failed, from the end of its log: the most useful error, not the last line.

Python prints a chain of exceptions with the first cause first, and frameworks end it with a vague
one, such as "An error occurred while generating the dataset". Launchers end it with one of their
own, and the other ranks of a distributed job with what the first failure did to them.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from flows.core.logs.pages import last_error
from flows.core.logs.tracebacks import Chain, Raised, read_chains, strip_prefix

CAUSE_LINES: Final = 400
"""How many last lines of a log are searched for a chain of exceptions."""
_NEAR_LINES: Final = 20
"""How many last lines of a log can hold the error that ended the job."""
_LAUNCHER_LINES: Final = 150
"""How many lines a launcher may print between a failure and its own error."""
_LINE_LENGTH: Final = 2000
_ERROR_LENGTH: Final = 400

_NO_SPACE: Final = re.compile(
    r"No space left on device|\[Errno 28\]|os error 28|Disk quota exceeded|\[Errno 122\]"
)
_HALF_WRITTEN: Final = re.compile(r"unexpected pos \d+ vs \d+|PytorchStreamWriter failed writing")
"""Torch's errors for a checkpoint that it could not write completely (torch 2.10,
caffe2/serialize/inline_container.cc); so it ends too where memory lacked, not space."""
_PLACE: Final = (
    re.compile(r"(?:No space left on device|Disk quota exceeded)[^']{0,20}: '([^']+)'"),
    re.compile(r"'([^']+)': (?:No space left on device|Disk quota exceeded)"),
)
_NAMES: Final = re.compile(r"[\d/'\"`]")
"""Characters of an error that names a row, a file or a key."""
_GPU_MEMORY: Final = re.compile(r"(?:\w+\.)*OutOfMemoryError: .*")
_LAUNCHER: Final = re.compile(
    r"(?:[\w.]+\.)?(?:ChildFailedError|CalledProcessError|ProcessRaisedException|"
    r"ProcessExitedException|SignalException)\b.*|.*Engine core initialization failed.*"
)
"""Errors of launchers, which say only that a process failed."""
_CONSEQUENCE: Final = re.compile(
    r"Connection closed by peer|Connection reset by peer|Broken pipe|remote process exited"
    r"|DataLoader worker \(pid\(s\)|Application timeout caused pair closure|EOFError$"
    r"|KeyboardInterrupt$|NCCL communicator was aborted|failed to recv, got 0 bytes"
    r"|Socket Timeout|^SystemExit"
)
"""What a failure does to the other processes of a job."""
_ROOT_RANK: Final = re.compile(r"^\s*rank\s*: (\d+) \(local_rank: \d+\)")


class Cause(NamedTuple):
    """Why a job failed."""

    text: str
    is_out_of_memory: bool
    """Whether the error that ended the job says that a GPU had too little memory."""
    links: tuple[Raised, ...] = ()
    """The exceptions that ended it, the first cause first; empty: no traceback shows them."""


def find_cause(lines: Sequence[str], *, output_dir: str = "") -> Cause | None:
    """Find the cause of a failure in the last lines of a log; None if they name none.

    Args:
        lines: The last lines, `CAUSE_LINES` of them or fewer.
        output_dir: The job's output folder, for a full disk whose path the log does not name.
    """
    cut = [line[:_LINE_LENGTH] for line in lines]
    chains = read_chains(cut)
    clean = _without_sides([strip_prefix(line)[1] for line in cut], chains)
    near = clean[-_NEAR_LINES:]
    last = last_error(near)
    root = _root_chain([chain for chain in chains if not chain.is_side], clean, last)
    links = tuple(root.links) if root else ()
    disk = _full_disk([link.text for link in links] + near, output_dir)
    if not links and last is None:
        return Cause(disk, is_out_of_memory=False) if disk else None
    errors = [link.error for link in links] or [str(last)]
    text = _best(errors) if len(errors) > 1 else errors[0][:_ERROR_LENGTH]
    is_out_of_memory = any(_GPU_MEMORY.fullmatch(error) for error in errors)
    return Cause(f"{disk} {text}".strip(), is_out_of_memory=is_out_of_memory, links=links)


def _without_sides(lines: Sequence[str], chains: Sequence[Chain]) -> list[str]:
    """The lines, those empty of exceptions that were raised while Python cleaned up."""
    kept = list(lines)
    for chain in chains:
        if chain.is_side:
            kept[chain.start : chain.end + 1] = [""] * (chain.end + 1 - chain.start)
    return kept


def _root_chain(chains: Sequence[Chain], lines: Sequence[str], last: str | None) -> Chain | None:
    """The chain of exceptions that ended the job; None if none did.

    Args:
        chains: All chains, in the order of their ends.
        lines: The lines of the log.
        last: The last error near the end, which may be in no chain.
    """
    root = _last_chain(chains, lines, last)
    if root is None:
        return None
    rank = _first_rank(lines[root.end :])
    for chain in reversed(chains[: chains.index(root)]):
        if root.start - chain.end > _LAUNCHER_LINES:
            break
        is_first = rank is not None and chain.rank == f"rank{rank}" != root.rank
        if is_first or (_is_vague(root.links[-1].error) and not _is_vague(chain.links[-1].error)):
            root = chain
    return root


def _last_chain(chains: Sequence[Chain], lines: Sequence[str], last: str | None) -> Chain | None:
    """The last chain near the end of the log, one that holds the last error before others."""
    ending = [chain for chain in chains if chain.end >= len(lines) - _reach(chain)]
    if last is not None:
        holding = [chain for chain in ending if _holds(chain, last)]
        if not holding and not _is_vague(last):
            return None
        ending = holding or ending
    return ending[-1] if ending else None


def _reach(chain: Chain) -> int:
    """How far from the end of the log a chain can be that ended the job.

    Launchers print the state of every rank below their own error.
    """
    return _LAUNCHER_LINES if _LAUNCHER.fullmatch(chain.links[-1].error) else _NEAR_LINES


def _holds(chain: Chain, error: str) -> bool:
    return any(error in {link.error, link.error.rstrip(":")} for link in chain.links)


def _is_vague(error: str) -> bool:
    """Whether an error says only that something else failed."""
    return bool(_LAUNCHER.fullmatch(error) or _CONSEQUENCE.search(error))


def _first_rank(lines: Sequence[str]) -> str | None:
    """The rank that torchrun saw fail first."""
    roots = [at for at, line in enumerate(lines) if line.startswith("Root Cause")]
    part = lines[roots[-1] : roots[-1] + 6] if roots else lines[:0]
    return next((match[1] for line in part if (match := _ROOT_RANK.match(line))), None)


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
    is_torn = any(map(_HALF_WRITTEN.search, lines)) and "MemoryError" not in lines
    if not full and not is_torn:
        return ""
    found = (match[1] for line in full for place in _PLACE if (match := place.search(line)))
    where = next(found, output_dir)
    what = "The disk is full" if full else "The disk is full, or a file could not be written whole"
    return f"{what}: {where}." if where else f"{what}."
