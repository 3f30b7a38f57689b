"""Builds the index file: ``python -m mcp_server.docs_index.build PACKAGE FILE``.

Runs in a process of its own, as it takes a second of CPU and imports griffe. It is atomic, and two
runs at once are safe.
"""

import fcntl
import logging
import sys
from pathlib import Path

from flows.core.private_files import make_private
from mcp_server.docs_index.source import read_api
from mcp_server.docs_index.store import DocsStore


def main() -> None:
    """Run the command line."""
    package, target = map(Path, sys.argv[1:])
    logging.disable()  # hides griffe's warnings about docstrings
    make_private(target.parent)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return  # another process was faster
        fresh = target.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        DocsStore(fresh).write(read_api(package))
        fresh.replace(target)


if __name__ == "__main__":
    main()
