"""Loading Oumi once in a process, whole before anybody uses it."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from flows.launcher.job_environment import DEPS_ENV, read_deps_file

_ONE_AT_A_TIME: Final = threading.Lock()


def load_oumi() -> None:
    """Import what we use of Oumi and fill its registry; returns when both are whole.

    Call it before anything of Oumi's is used. Its registry (oumi 0.9) calls itself filled before
    it is, and Python lets a module be seen half imported where threads that import the same ones
    would wait for each other: a job launched meanwhile found clouds missing. The registry fills
    itself at its first use; that has to be ours, as the first within `oumi.launcher` comes before
    that module is whole, and a module that OUMI_EXTRA_DEPS_FILE names may import from it.

    Raises:
        InvalidConfig: OUMI_EXTRA_DEPS_FILE names what Oumi would read for ever.
    """
    with _ONE_AT_A_TIME:
        _check_own_modules()
        from oumi.core.registry import REGISTRY, RegistryType

        registry: Any = REGISTRY
        registry.get_all(RegistryType.CLOUD)

        import oumi.core.configs  # pyright: ignore[reportUnusedImport]
        import oumi.launcher  # noqa: F401 # pyright: ignore[reportUnusedImport]

        from flows.launcher.local import oumi_cloud as local_cloud

        local_cloud.register()


def _check_own_modules() -> None:
    named = os.environ.get(DEPS_ENV)
    if named:
        # Oumi says what else is wrong with it.
        with suppress(OSError, ValueError):
            read_deps_file(Path(named))
