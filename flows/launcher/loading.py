"""Loading Oumi once in a process, and completely before its first use."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from flows.launcher.job_environment import DEPS_ENV, read_deps_file

SPOT_ENV: Final = "OUMI_USE_SPOT_VM"
_ONE_AT_A_TIME: Final = threading.Lock()


def load_oumi() -> None:
    """Import what we use of Oumi and fill its registry; return when both are complete.

    Call it before any use of Oumi. Its registry (oumi 0.9) reports itself as filled too early, and
    Python exposes a half imported module where threads that import the same modules would wait
    for each other: a job launched at that moment found clouds missing. The registry fills itself
    at its first use. That use must be here: the first one within `oumi.launcher` comes before that
    module is complete, and a module that OUMI_EXTRA_DEPS_FILE names may import from it.

    Raises:
        InvalidConfig: Oumi would never finish reading the file that OUMI_EXTRA_DEPS_FILE names.
    """
    with _ONE_AT_A_TIME:
        # Oumi 0.9 would launch with this instead of `use_spot` of the plan that was shown.
        os.environ.pop(SPOT_ENV, None)
        _check_own_modules()
        from oumi.core.registry import REGISTRY, RegistryType

        registry: Any = REGISTRY
        registry.get_all(RegistryType.CLOUD)

        import oumi.core.configs  # pyright: ignore[reportUnusedImport]
        import oumi.launcher  # noqa: F401 # pyright: ignore[reportUnusedImport]

        from flows.launcher.local import oumi_cloud as local_cloud

        local_cloud.register()


def prepare_local_jobs() -> None:
    """Make the start of local jobs faster from soon on; `load_oumi` comes first."""
    from flows.launcher.local.oumi_cloud import prepare

    prepare()


def _check_own_modules() -> None:
    named = os.environ.get(DEPS_ENV)
    if named:
        # Oumi reports any other fault of the file.
        with suppress(OSError, ValueError):
            read_deps_file(Path(named))
