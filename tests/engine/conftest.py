import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.core.settings import Settings
from mcp_server.engine import Engine

# Prefect's own worker starts in a second; the real one takes ten, and is started elsewhere.
LIGHT_WORKER = "process"


def make_engine(home: Path, *, environ: dict[str, str] | None = None, **settings: Any) -> Engine:
    return Engine(
        Settings(home=home, **settings),
        environ={**os.environ, **(environ or {})},
        worker_type=LIGHT_WORKER,
    )


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A running engine that no test breaks; its pool is not ours."""
    engine = make_engine(tmp_path_factory.mktemp("team") / "home", work_pool="theirs")
    engine.ensure()
    yield engine
    engine.down()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"
