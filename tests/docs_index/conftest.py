import asyncio
from pathlib import Path

import pytest

from mcp_server.docs_index.keeper import DocsKeeper
from mcp_server.services.docs import DocsService


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the index of the installed Oumi."""
    folder = tmp_path_factory.mktemp("docs")
    asyncio.run(DocsKeeper(folder, wait_seconds=60).store())
    return folder


@pytest.fixture
def docs(folder: Path) -> DocsService:
    return DocsService(DocsKeeper(folder))
