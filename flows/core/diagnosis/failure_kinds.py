"""What kind of failure an error is, by what it says and by the code it arose in."""

import re
from collections.abc import Sequence
from typing import Final

from flows.core.diagnosis.failure_words import WORDS
from flows.core.diagnosis.findings import FindingKind
from flows.core.logs.tracebacks import Raised

_PATTERNS: Final = [
    (kind, re.compile("|".join(words), re.MULTILINE)) for kind, words in WORDS.items()
]
_DECISIVE: Final = frozenset({FindingKind.DISK_FULL, FindingKind.OUT_OF_MEMORY})
_WORKER_CRASH: Final = re.compile(r"killed by signal: (?:Segmentation fault|Aborted)")
_DATA_CODE: Final = re.compile(
    r"/(?:site|dist)-packages/datasets/|/torch/utils/data/|collat|/PIL/|/pyarrow/|/gzip\.py"
    r"|/data_utils\.py|/oumi/core/(?:tokenizers|datasets)/|/oumi/builders/data\.py|/oumi/datasets/"
    r"|/jsonlines/"
)
"""Files whose errors are those of the data they read."""
_KERNEL: Final = re.compile(r"Out of memory: Killed process|oom[-_]kill|OOM[ -][Kk]ill")
"""What the kernel and Slurm say of a process that they killed for its memory."""
_WORDS_LINES: Final = 15
_NATIVE: Final[Sequence[tuple[FindingKind, str]]] = (
    (
        FindingKind.CRASH,
        r"Segmentation fault|Fatal Python error|SIGSEGV|SIGABRT|SIGBUS|SIGFPE|SIGILL|Bus error"
        r"|^(?:\S+: line \d+: +\d+ )?Aborted\b|Illegal instruction|Floating point exception"
        r"|terminate called after throwing",
    ),
    (
        FindingKind.KILLED,
        r"SIGKILL|SIGTERM\) received by PID|^(?:\S+: line \d+: +)?(?:\d+ )?(?:Killed|Terminated)\b"
        r"|DUE TO (?:TIME LIMIT|PREEMPTION|NODE FAILURE)",
    ),
)
_NATIVE_PATTERNS: Final = [(kind, re.compile(words)) for kind, words in _NATIVE]


def classify_error(text: str) -> FindingKind | None:
    """The kind of an error by what it says; None: its words fit none."""
    return next((kind for kind, pattern in _PATTERNS if pattern.search(text)), None)


def classify_links(links: Sequence[Raised]) -> FindingKind | None:
    """The kind of a chain of exceptions by the first that fits one, then by where it arose.

    A lack of memory or of space counts wherever it stands: it makes connections fail first.
    """
    if any(_WORKER_CRASH.search(link.error) for link in links):
        return FindingKind.CRASH
    kinds = [kind for link in links if (kind := classify_error(link.text))]
    found = next((kind for kind in kinds if kind in _DECISIVE), kinds[0] if kinds else None)
    if found is None and (links[-1].error == "StopIteration" or any(map(_is_of_data, links))):
        return FindingKind.DATA_ERROR
    return found


def classify_lines(lines: Sequence[str], *, is_signal: bool) -> tuple[FindingKind, str] | None:
    """The kind of a failure without a traceback, and the line that shows it.

    Args:
        lines: The last lines of the log.
        is_signal: Whether a signal ended the job: then other words near the end explain nothing.
    """
    roots = [at for at, line in enumerate(lines) if line.startswith("Root Cause")]
    lines = lines[roots[-1] :] if roots else lines
    shortage = next((line for line in reversed(lines) if _KERNEL.search(line)), None)
    if shortage:
        return FindingKind.OUT_OF_MEMORY, shortage
    for at in range(len(lines) - 1, -1, -1):
        kind = next((kind for kind, words in _NATIVE_PATTERNS if words.search(lines[at])), None)
        if kind is not None:
            return _classify_thrown(lines, at) or (kind, lines[at])
    said = [line for line in lines[-_WORDS_LINES:] if "warn" not in line.lower()]
    return None if is_signal else _first_by_words(said)


def find_assertion(lines: Sequence[str]) -> str | None:
    """The last assertion that failed on a GPU, which the exception does not name."""
    return next((line for line in reversed(lines) if "Assertion `" in line), None)


def _classify_thrown(lines: Sequence[str], at: int) -> tuple[FindingKind, str] | None:
    """The kind of a C++ exception that nothing caught, by what it says."""
    if "terminate called" not in lines[at]:
        return None
    return _first_by_words(lines[at + 1 : at + 3]) or _first_by_words([lines[at]])


def _first_by_words(lines: Sequence[str]) -> tuple[FindingKind, str] | None:
    for kind, pattern in _PATTERNS:
        found = next((line for line in lines if pattern.search(line)), None)
        if found is not None:
            return kind, found
    return None


def _is_of_data(link: Raised) -> bool:
    is_code = link.error.startswith(("NameError", "SyntaxError", "NotImplementedError"))
    return not is_code and any(_DATA_CODE.search(file) for file in link.files)
