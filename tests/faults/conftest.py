"""Jobs on the session's engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.job_driver import JobDriver, job_driver
from tests.support.stack import Stack


@pytest.fixture
async def jobs(stack: Stack, tmp_path: Path) -> AsyncIterator[JobDriver]:
    folder = tmp_path / "client"
    folder.mkdir()
    connection = stack.connection
    environ = {
        "PREFECT_API_URL": connection.api_url,
        "PREFECT_API_AUTH_STRING": connection.auth_string or "",
    }
    home = Path(stack.env["OUMI_FLOWS_HOME"])
    async with job_driver(connection, home, folder, environ) as driver:
        yield driver
