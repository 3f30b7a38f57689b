"""What a process has imported, and what that depended on. Standard library only."""

import importlib
import os
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

# How variables begin that native libraries read, or that tqdm and fsspec find among all: neither
# leaves a trace.
_UNSEEN: Final = (
    "ARROW_", "ATEN_", "BLIS_", "CUBLAS", "CUDA", "CUDNN", "FSSPEC_", "GCONV_", "GLIBC_", "GLOO_",
    "GOMP_", "GOTO", "HIP_", "HSA_", "JEMALLOC", "KMP_", "LANG", "LC_", "LD_", "MALLOC_", "MKL_",
    "NCCL_", "NUMEXPR_", "NVIDIA_", "OMP_", "OPENBLAS", "OPENSSL_", "PYTHON", "PYTORCH_", "RAYON_",
    "ROCM", "ROCR_", "TF_", "TOKENIZERS_", "TORCH", "TQDM_", "VECLIB_", "XLA_",
)  # fmt: skip
_UNSEEN_NAMES: Final = frozenset({"TZ", "LOCPATH", "TMPDIR", "MPLBACKEND"})
_READ_LATER: Final = frozenset(
    {"PATH", "OUMI_EXTRA_DEPS_FILE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"}
)
"""Read by imports, or by native code, and yet free to differ: `became.py` sees to each."""


class Imports:
    """The modules of this process, the variables they read, and their files as they were."""

    def __init__(self) -> None:
        self._read: set[str] = set()
        self._before = dict(os.environ)
        self._files: dict[str, tuple[int, int]] = {}
        self.changes: dict[str, str | None] = {}
        """Variables that the imports set; None: removed."""

    def run(self, modules: Iterable[str]) -> None:
        """Import modules and note what they read of the environment, which is then as before.

        Raises:
            ImportError: One is missing, or cannot be imported.
        """
        self._before = dict(os.environ)
        with _watched_environment(self._read):
            for module in modules:
                importlib.import_module(module)
        after = dict(os.environ)
        names = self._before.keys() | after.keys()
        differ = [name for name in names if after.get(name) != self._before.get(name)]
        self.changes = {name: after.get(name) for name in differ}
        set_environment(self._before)
        self._files = {path: state for path in _imported_files() if (state := _state(path))}

    def difference(self, environment: dict[str, str]) -> str | None:
        """Name a variable that would have changed these imports; None if none would."""
        names = environment.keys() | self._before.keys() | self._read
        for name in sorted(names - _READ_LATER):
            if environment.get(name) != self._before.get(name) and self._matters(name):
                return name
        return None

    def changed_file(self) -> str | None:
        """Name a file or search folder that changed since; None if none did.

        A package that was installed, upgraded or removed changes its folder.
        """
        return next((path for path, state in self._files.items() if _state(path) != state), None)

    def _matters(self, name: str) -> bool:
        return name in self._read or name in _UNSEEN_NAMES or name.startswith(_UNSEEN)


def set_environment(environment: Mapping[str, str | None]) -> None:
    """Make it the environment of this process; None removes a variable."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        elif os.environ.get(name) != value:
            os.environ[name] = value


@contextmanager
def _watched_environment(names: set[str]) -> Generator[None]:
    """Add each variable that Python code reads by its name to `names`.

    Code that reads all of them, one after the other, chooses among them later.
    """
    kind: Any = type(os.environ)
    read, walk = kind.__getitem__, kind.__iter__
    reached: deque[str] = deque()

    def watched_walk(environment: Any) -> Iterator[str]:
        reached.clear()
        for name in walk(environment):
            reached.append(name)
            yield name

    def watched_read(environment: Any, name: object) -> str:
        if reached and name == reached[0]:
            reached.popleft()
        elif isinstance(name, str):
            reached.clear()
            names.add(name)
        return cast(str, read(environment, name))

    kind.__getitem__, kind.__iter__ = watched_read, watched_walk
    try:
        yield
    finally:
        kind.__getitem__, kind.__iter__ = read, walk


def _imported_files() -> set[str]:
    """The files of the imported modules, and the folders in which modules are searched."""
    found = {path for path in sys.path if path}
    for module in list(sys.modules.values()):
        with suppress(Exception):  # some modules compute their attributes, and may fail
            path: object = vars(module).get("__file__")
            if isinstance(path, str):
                found.add(path)
    return found


def _state(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - thousands of them, at each command
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
