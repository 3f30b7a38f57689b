"""What kind of failure an error is, by the words of the tools that report it.

Seen with torch 2.10, transformers 5.16, datasets 4.8, trl 1.6, peft 0.19, huggingface_hub 1.16 and
oumi 0.9: tests/diagnosis/logs holds what they print.
"""

import re
from collections.abc import Sequence
from typing import Final

from flows.core.diagnosis.findings import FindingKind
from flows.core.logs.tracebacks import Raised

_WORDS: Final[Sequence[tuple[FindingKind, str]]] = (
    (
        FindingKind.DISK_FULL,
        r"^The disk is full|No space left on device|\[Errno 28\]|os error 28|Disk quota exceeded|\[Errno 122\]"
        r"|File too large|os error 27|Wrote only \d+ of \d+ bytes|unexpected pos \d+ vs \d+|PytorchStreamWriter failed writing"
        r"|\d+ requested and \d+ written|basic_ios::clear: iostream error",
    ),
    (
        FindingKind.OUT_OF_MEMORY,
        r"OutOfMemoryError|out of memory|^MemoryError|ArrayMemoryError|ArrowMemoryError"
        r"|can't allocate memory|[Cc]annot allocate memory|\[Errno 12\]|os error 12|bad_alloc"
        r"|_ALLOC_FAILED|is killed by signal: Killed|killed by signal: Bus error"
        r"|subprocesses has abruptly died during map|unable to allocate shared memory"
        r"|unable to (?:mmap|resize) \d+ bytes|oom[-_]kill|OOM[ -][Kk]ill|Out Of Memory"
        r"|No available memory for the cache blocks|less than desired GPU memory utilization"
        r"|larger than the maximum number of tokens that can be stored in KV cache"
        r"|exceed(?:ed|ing) (?:its )?memory limit",
    ),
    (FindingKind.STALLED, r"DataLoader timed out after \d+"),
    (
        FindingKind.HUB_ACCESS,
        r"GatedRepo|gated repo|RepositoryNotFound|RevisionNotFound|OfflineModeIsEnabled"
        r"|(?:Remote|Local)EntryNotFoundError|Entry Not Found for url|DatasetNotFoundError"
        r"|HFValidationError|Repo id must be in the form|is not a valid model identifier"
        r"|is not a local folder and is not|Can't find 'adapter_config\.json'"
        r"|Incorrect path_or_model_id|does not appear to have (?:a )?files? named"
        r"|no file named (?:model\.safetensors|pytorch_model)|Unrecognized model in "
        r"|Can't load (?:tokenizer|the model|the configuration|image processor|feature extractor)"
        r"|(?:401|403) (?:Client Error|Forbidden|Unauthorized).*(?:hf\.co|huggingface)"
        r"|Invalid username or password|LocalTokenNotFoundError|Token is required"
        r"|Unrecognized processing class in |HfHubHTTPError: 40[134]"
        r"|on the Hub \((?:OfflineModeIsEnabled|LocalEntryNotFoundError)",
    ),
    (
        FindingKind.NETWORK,
        r"Connect(?:ion)?(?:Error|Timeout)\b|Connection(?:Refused|Reset|Aborted)Error"
        r"|ReadTimeout|ReadError|RemoteProtocolError|RemoteDisconnected|NewConnectionError"
        r"|NameResolutionError|MaxRetryError|URLError|gaierror|socket\.timeout|^TimeoutError"
        r"|ProtocolError|ChunkedEncodingError|IncompleteRead|SSLError|ProxyError"
        r"|Name or service not known|Temporary failure in name resolution|Could not resolve host"
        r"|Connection (?:refused|reset|timed out|closed by peer)|No route to host"
        r"|Failed to connect to|Network is unreachable|unable to access 'https?://"
        r"|DistNetworkError|DistStoreError|DistBackendError|RendezvousTimeout|RendezvousConnection"
        r"|[Nn]ccl(?:System|Remote|Internal|Unhandled)\w*Error|NCCL error|NCCL WARN"
        r"|NCCL communicator was aborted|Watchdog caught collective operation timeout"
        r"|Application timeout caused pair closure|[Tt]imed out (?:after )?waiting \d+"
        r"|\[.*gloo/.*\]|Gloo connectFullMesh failed|monitoredBarrier"
        r"|[Tt]imed out initializing process group|EADDRINUSE|Address already in use"
        r"|50[234] Server Error|Gateway Time-?out|429 (?:Client Error|Too Many Requests)"
        r"|broken pipe to|client_loop: send disconnect|Host key verification failed",
    ),
    (
        FindingKind.DEPENDENCY,
        r"ModuleNotFoundError|ImportError|PackageNotFoundError|DistributionNotFound"
        r"|VersionConflict|No module named|command not found|cannot open shared object file"
        r"|undefined symbol|version `(?:GLIBC|CXXABI)|No matching distribution found"
        r"|ResolutionImpossible|Torch not compiled with CUDA|Found no NVIDIA driver"
        r"|NVIDIA driver on your system is too old|CUDA driver version is insufficient"
        r"|no kernel image is available|CUDA_HOME (?:environment variable is not set|does not exist)"
        r"|CUDA driver initialization failed|Failed to build|metadata-generation-failed"
        r"|setup doesn't support bf16|numpy\.dtype size changed|PTX was compiled with"
        r"|module '?`?\w+'?`? has no attribute|'_OpNamespace'|but Transformers does not recognize"
        r"|is required for a normal functioning|requires .* to be installed|[Pp]lease install"
        r"|FlashAttention only supports Ampere|detected CUDA version|Ninja is required"
        r"|Failed to find C compiler|is not compiled with|could not find .*libcu",
    ),
    (
        FindingKind.DATA_ERROR,
        r"ArrowInvalid|ArrowTypeError|ArrowNotImplementedError|JSONDecodeError"
        r"|UnicodeDecodeError|ParserError|jinja2\.exceptions|UnidentifiedImageError|BadGzipFile"
        r"|DatasetGeneration|DataFilesNotFoundError|EmptyDatasetError|CastError|zlib\.error"
        r"|corresponds to no data|Unknown split|chat[_ ]template|CUDA_KERNEL_ASSERT"
        r"|index out of range in self|Target -?\d+ is out of bounds"
        r"|to match target batch_size|Unable to create tensor, you should probably"
        r"|each tensor to be equal size|default_collate: batch must contain"
        r"|not in the dataset|No columns in the dataset match|out of range for dataset of size"
        r"|Assertion `(?:srcIndex < |t >= 0 && t < |-sizes\[i\] <= index|ind >= 0 && ind <)"
        r"|(?:Unable to find|No such file or directory:?|file) '?\S+\.(?:jsonl|csv|parquet|arrow"
        r"|tsv|png|jpe?g|wav|mp3)\b|Invalid string class label|The dataset is empty"
        r"|must have the same number of rows|expected sequence of length \d+ at dim"
        r"|num_samples should be a positive integer|Conversation roles must alternate",
    ),
    (FindingKind.KILLED, r"^KeyboardInterrupt|SignalException"),
)
_PATTERNS: Final = [(kind, re.compile(words, re.MULTILINE)) for kind, words in _WORDS]

_DATA_CODE: Final = re.compile(
    r"/site-packages/datasets/|/torch/utils/data/|collat|/PIL/|/pyarrow/|/gzip\.py|/data_utils\.py"
    r"|/oumi/core/tokenizers/|/oumi/builders/data\.py|/oumi/datasets/"
)
"""Files whose errors are those of the data they read."""
_NATIVE: Final[Sequence[tuple[FindingKind, str]]] = (
    (FindingKind.OUT_OF_MEMORY, r"Out of memory: Killed process|oom[-_]kill|OOM[ -][Kk]ill"),
    (
        FindingKind.CRASH,
        r"Segmentation fault|Fatal Python error|SIGSEGV|SIGABRT|SIGBUS|SIGFPE|SIGILL|Bus error"
        r"|Aborted|Illegal instruction|Floating point exception|terminate called after throwing",
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
    """The kind of a chain of exceptions by the first that fits one, then by where it arose."""
    kinds = (classify_error(link.text) for link in links)
    found = next((kind for kind in kinds if kind is not None), None)
    if found is None and (links[-1].error == "StopIteration" or any(map(_is_of_data, links))):
        return FindingKind.DATA_ERROR
    return found


def classify_lines(lines: Sequence[str]) -> tuple[FindingKind, str] | None:
    """The kind of a failure without a traceback, and the line that shows it."""
    roots = [at for at, line in enumerate(lines) if line.startswith("Root Cause")]
    lines = lines[roots[-1] :] if roots else lines
    for at in range(len(lines) - 1, -1, -1):
        kind = next((kind for kind, words in _NATIVE_PATTERNS if words.search(lines[at])), None)
        if kind is not None:
            return _classify_thrown(lines, at) or (kind, lines[at])
    return _first_by_words(lines)


def find_assertion(lines: Sequence[str]) -> str | None:
    """The last assertion that failed on a GPU, which the exception does not name."""
    return next((line for line in reversed(lines) if "Assertion `" in line), None)


def _classify_thrown(lines: Sequence[str], at: int) -> tuple[FindingKind, str] | None:
    """The kind of a C++ exception that nothing caught, by what it says."""
    if "terminate called" not in lines[at]:
        return None
    return _first_by_words(lines[at : at + 3])


def _first_by_words(lines: Sequence[str]) -> tuple[FindingKind, str] | None:
    for kind, pattern in _PATTERNS:
        found = next((line for line in lines if pattern.search(line)), None)
        if found is not None:
            return kind, found
    return None


def _is_of_data(link: Raised) -> bool:
    is_code = link.error.startswith(("NameError", "SyntaxError", "NotImplementedError"))
    return not is_code and any(_DATA_CODE.search(file) for file in link.files)
