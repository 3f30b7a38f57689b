"""Turns a forked process into the command that it was forked for."""

import ctypes
import fcntl
import os
import resource
import signal
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, Never

from flows.core.names import JOB_KEY_ENV
from flows.launcher.local.job_folder import JOB_DIR_ENV
from flows.launcher.local.warm.door import Became
from flows.launcher.local.warm.fitness import THREADS_ENV, own_files
from flows.launcher.local.warm.imports import Imports, set_environment
from flows.launcher.local.warm.request import CommandRequest

ROOM_ENV: Final = "OUMI_FLOWS_ROOM"
"""Variable of the warm host whose value makes room for the variables that mark a job's process."""
ROOM: Final = "-" * 4096
"""Also the last argument of the host, for the arguments of commands."""
_PR_SET_NAME: Final = 15  # prctl(2)
_STAT_MEMORY: Final = slice(45, 49)
"""arg_start, arg_end, env_start and env_end after the name in /proc/PID/stat (proc(5))."""


def run_command(
    became: Became, *, search_path: list[str], imports: Imports, held: Collection[int]
) -> Never:
    """Run the command to its end, as a new process would.

    Args:
        became: What this process was forked for.
        search_path: ``sys.path`` of the program.
        imports: What this process has imported.
        held: Descriptors that the imported modules keep open.
    """
    request = became.request
    os.setsid()
    _leave_gpus()
    _close_all_but({0, 1, 2, became.go, *became.files, *held})
    _mark_memory(request)
    is_wanted = os.read(became.go, 1)
    os.close(became.go)
    if not is_wanted:
        os._exit(0)
    _take_files(request, became.files)
    _take_environment(request, imports)
    _take_limits(request)
    _take_signals(request)
    _forget_the_host(request)
    sys.argv = [request.program, *request.argv]
    sys.path[:] = search_path
    _execute(Path(request.program))


def _take_files(request: CommandRequest, files: list[int]) -> None:
    *files, folder = files
    os.fchdir(folder)
    os.close(folder)
    # Out of the way of each other first.
    above = max(request.files, default=0) + 1
    high = [fcntl.fcntl(number, fcntl.F_DUPFD, above) for number in files]
    for number in files:
        os.close(number)
    for number, wanted in zip(high, request.files, strict=True):
        os.dup2(number, wanted)
        os.close(number)


def _leave_gpus() -> None:
    """Give up the supervisor's use of NVML, whose descriptors are about to be closed."""
    if nvml := sys.modules.get("pynvml"):
        library: Any = nvml
        with suppress(library.NVMLError):
            library.nvmlShutdown()


def _close_all_but(kept: Collection[int]) -> None:
    for number in own_files():
        if number not in kept:
            os.close(number)


def _take_environment(request: CommandRequest, imports: Imports) -> None:
    set_environment({**request.env, **imports.changes})
    os.umask(request.umask)


def _take_limits(request: CommandRequest) -> None:
    for name, (soft, hard) in request.limits.items():
        if resource.getrlimit(int(name)) != (soft, hard):
            resource.setrlimit(int(name), (soft, hard))
    higher = request.nice - os.getpriority(os.PRIO_PROCESS, 0)
    if higher > 0:
        os.nice(higher)
    if set(request.affinity) != os.sched_getaffinity(0):
        os.sched_setaffinity(0, request.affinity)


def _take_signals(request: CommandRequest) -> None:
    """Set what Python sets at its start, and what the process was started to ignore."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):  # the C library's own
            signal.signal(number, signal.SIG_IGN if number in request.ignored else signal.SIG_DFL)
    if signal.SIGINT not in request.ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request.blocked)


def _forget_the_host(request: CommandRequest) -> None:
    """Reset what the libraries of the host have decided for it alone."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "flows"]:
        del sys.modules[name]
    for reset in _RESETS:
        reset(request)


def _reset_random_numbers(_request: CommandRequest) -> None:
    # Python's own generator does this itself; torch's begins with a constant.
    if numpy := sys.modules.get("numpy"):
        random: Any = numpy.random
        random.seed()


def _reset_registry(_request: CommandRequest) -> None:
    # Filled again at its next use (oumi 0.9), it loads what OUMI_EXTRA_DEPS_FILE names.
    if module := sys.modules.get("oumi.core.registry"):
        registry: Any = module
        registry.REGISTRY._initialized = False


def _reset_threads(request: CommandRequest) -> None:
    count = int(request.env.get(THREADS_ENV) or 0)
    if count and "torch" in sys.modules:
        torch: Any = sys.modules["torch"]
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
            with suppress(ImportError):
                from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingImports]

                threadpool_limits(count)


_RESETS: Final[tuple[Callable[[CommandRequest], None], ...]] = (
    _reset_random_numbers,
    _reset_registry,
    _reset_threads,
)


def _execute(program: Path) -> Never:
    """Execute a Python program as the main module."""
    main = ModuleType("__main__")
    main.__file__ = str(program)
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    try:
        exec(compile(program.read_bytes(), program, "exec"), main.__dict__)  # noqa: S102
    except SystemExit:
        raise
    except BaseException as error:
        # As the interpreter reports it, but without our own frames; it still decides how to end.
        trace = error.__traceback__
        shown = error.with_traceback(trace.tb_next if trace else None)
        sys.excepthook(type(shown), shown, shown.__traceback__)
        sys.excepthook = _say_nothing
        raise
    sys.exit(0)


def _say_nothing(
    _kind: type[BaseException], _error: BaseException, _trace: TracebackType | None
) -> None:
    """Leave out a report that was made."""


def _mark_memory(request: CommandRequest) -> None:
    """Show the command, and that it belongs to its job, where other processes look: in /proc.

    The kernel shows the memory in which a process got its arguments and environment (proc(5)).
    Only the host's own arguments and the variable that makes room are overwritten.
    """
    with suppress(OSError, ValueError):
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        arg_start, arg_end, env_start, env_end = map(int, fields[_STAT_MEMORY])
        command = [sys.executable, request.program, *request.argv]
        _overwrite(arg_start, arg_end - arg_start, _c_strings(command))
        environment = ctypes.string_at(env_start, env_end - env_start)
        room = environment.index(f"{ROOM_ENV}=".encode())
        marks = [f"{name}={request.env.get(name, '')}" for name in (JOB_DIR_ENV, JOB_KEY_ENV)]
        _overwrite(env_start + room, len(ROOM_ENV) + 1 + len(ROOM), _c_strings(marks))
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"oumi", 0, 0, 0)


def _overwrite(address: int, size: int, data: bytes) -> None:
    ctypes.memmove(address, data[: size - 1].ljust(size, b"\0"), size)


def _c_strings(texts: list[str]) -> bytes:
    return b"".join(os.fsencode(text) + b"\0" for text in texts)
