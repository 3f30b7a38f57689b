"""Builds the index of the installed Oumi in the background, once per version."""

import asyncio
import contextlib
import importlib.util
import sqlite3
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import anyio.to_thread

from flows.core.errors import EngineUnavailable, InternalError, OperationTimeout, OumiFlowsError
from flows.core.private_files import make_private
from mcp_server.docs_index.store import FORMAT, DocsStore
from oumi_flows import python_command

START_SECONDS: Final = 5.0
"""Delay of the build after the server's start, so that the engine starts first."""
WAIT_SECONDS: Final = 2.5
BUILD_SECONDS: Final = 120.0
_BUILD: Final = "mcp_server.docs_index.build"


class Package(NamedTuple):
    """An installed package."""

    folder: Path
    version: str


def find_oumi() -> Package | None:
    """Find the Oumi of this process's environment without importing it."""
    spec = importlib.util.find_spec("oumi")
    if spec is None or not spec.submodule_search_locations:
        return None
    try:
        return Package(Path(spec.submodule_search_locations[0]), version("oumi"))
    except PackageNotFoundError:
        return None


class DocsKeeper:
    """Keeps the index file; builds it if it is missing.

    Args:
        folder: Where index files are kept.
        find: Finds the package.
        wait_seconds: How long a caller waits for a build.
    """

    def __init__(
        self,
        folder: Path,
        *,
        find: Callable[[], Package | None] = find_oumi,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._folder = folder
        self._find = find
        self._wait_seconds = wait_seconds
        self._building: asyncio.Task[DocsStore] | None = None

    async def keep(self) -> None:
        """Build the index if it is missing, some time after the start; then return."""
        await anyio.sleep(START_SECONDS)
        # A call that needs the index reports the error.
        with contextlib.suppress(OumiFlowsError):
            await self.store()

    def package(self) -> Package:
        """Find the package to index.

        Raises:
            EngineUnavailable: It is not installed.
        """
        found = self._find()
        if found is None:
            raise EngineUnavailable(
                f"Oumi is not installed in this server's Python ({sys.executable}), so its API "
                "cannot be looked up",
                "Install oumi into that environment, or start the server from one that has it",
            )
        return found

    async def store(self) -> DocsStore:
        """Return the index, ready for searches.

        Raises:
            EngineUnavailable: Oumi is not installed.
            OperationTimeout: The index is still being built.
            InternalError: It cannot be built.
        """
        package = self.package()
        path = self._folder / f"oumi-{package.version}-{FORMAT}.sqlite3"
        if self._building is None and path.exists():
            store = DocsStore(path)
            try:
                await anyio.to_thread.run_sync(store.count)
            except sqlite3.Error:  # cut short by a crash or a full disk: build it again
                path.unlink(missing_ok=True)
            else:
                return store
        if self._building is None:
            self._building = asyncio.create_task(self._build(package, path))
        try:
            async with asyncio.timeout(self._wait_seconds):
                # Other callers wait for the same build: the time-out of one must not end it.
                return await asyncio.shield(self._building)
        except TimeoutError as error:
            raise OperationTimeout(
                f"The API of oumi {package.version} is being indexed, which happens once",
                "Call it again in a few seconds",
            ) from error

    def close(self) -> None:
        """Stop a running build."""
        if self._building is not None:
            self._building.cancel()

    async def _build(self, package: Package, path: Path) -> DocsStore:
        try:
            make_private(self._folder)
            failure = await self._run_build(package, path)
        except (OSError, TimeoutError) as error:
            raise self._not_indexed(package, repr(error)) from error
        finally:
            self._building = None
        if failure is not None:
            raise self._not_indexed(package, failure[:300])
        return DocsStore(path)

    async def _run_build(self, package: Package, path: Path) -> str | None:
        """Build the index in a process of its own; return the last line of its failure."""
        process = await asyncio.create_subprocess_exec(
            *python_command(_BUILD, str(package.folder), str(path)),
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(BUILD_SECONDS):
                _, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        return last if process.returncode else None

    def _not_indexed(self, package: Package, why: str) -> InternalError:
        return InternalError(
            f"The API of oumi {package.version} could not be indexed ({why})",
            f"Check that {self._folder} can be written and has space",
        )
