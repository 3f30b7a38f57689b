"""Starts our Python processes without modules of the current folder.

It is the command ``oumi-flows``, and the script of each Python process of ours, as
``python -E -P oumi_flows.py MODULE ARGUMENT...``. A project may have modules named ``flows`` or
``json``, and ``PYTHONPATH=.`` puts them before the installed ones; the person's jobs keep that
variable. Nothing but the standard library is imported before the paths are in order.
"""

import os
import sys
from collections.abc import Sequence


def main() -> int:
    """Run the command ``oumi-flows``.

    Returns:
        The exit code.
    """
    sys.path[:] = trusted_paths(sys.path, os.environ.get("PYTHONPATH", ""))
    from mcp_server.cli import main as run

    return run()


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs `module` in its own process, like ``python -m``."""
    return [sys.executable, "-E", "-P", os.path.abspath(__file__), module, *arguments]  # noqa: PTH100 - pathlib costs 10 ms here


def trusted_paths(paths: Sequence[str], python_path: str) -> list[str]:
    """Return where Python looks for modules: its own places first, the current folder never.

    Args:
        paths: Where this process looks for them, as Python set it up.
        python_path: The value of ``PYTHONPATH``. Its absolute folders come last: on some clusters
            they are where the packages are.
    """
    root = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    here = _real(".")
    theirs = [entry for entry in python_path.split(os.pathsep) if os.path.isabs(entry)]  # noqa: PTH117
    # Python puts the folder of the script, or the current one, before everything else.
    first = [] if sys.flags.safe_path else list(paths[:1])
    foreign = {here, *map(_real, [*first, *python_path.split(os.pathsep)])}
    own = [entry for entry in paths if _real(entry) not in foreign]
    last = [entry for entry in theirs if _real(entry) != here]
    return list(dict.fromkeys([*own, *last, root]))


def _real(path: str) -> str:
    try:
        return os.path.realpath(path or ".")
    except OSError:  # the current folder was deleted
        return path


def _run_module(argv: list[str]) -> None:
    import runpy

    sys.path[:] = trusted_paths(sys.path, os.environ.get("PYTHONPATH", ""))
    sys.argv = argv
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run_module(sys.argv[1:])
