import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.settings import Settings
from mcp_server.engine import Engine

MakeEngine = Callable[..., Engine]

# Prefect's own worker starts in a second; the real one takes ten, and is started elsewhere.
LIGHT_WORKER = "process"


def make_engine(home: Path, *, environ: dict[str, str] | None = None, **settings: Any) -> Engine:
    return Engine(
        Settings(home=home, **settings),
        environ={**os.environ, **(environ or {})},
        worker_type=LIGHT_WORKER,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def engine(home: Path) -> Iterator[Engine]:
    """An engine that nobody has started."""
    engine = make_engine(home)
    yield engine
    engine.down()
