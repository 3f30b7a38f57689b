"""SkyPilot's client where no API server runs, even if one does on this machine."""

import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final

import pytest

_CONSTANTS: Final = {"STDOUT": subprocess.STDOUT, "DEVNULL": subprocess.DEVNULL}


@contextmanager
def no_api_server() -> Generator[str]:
    """The client knows no server; without this it would start one at this address."""
    from sky.server import common as untyped

    common: Any = untyped

    def refused(*_args: object, **_kwargs: object) -> None:
        pytest.fail("an API server was about to be started")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    caches = [common.get_server_url, common.is_api_server_local]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SKYPILOT_API_SERVER_ENDPOINT", raising=False)
        patch.setattr(common, "DEFAULT_SERVER_URL", url)
        patch.setattr(common, "AVAILABLE_LOCAL_API_SERVER_URLS", [url])
        patch.setattr(common, "subprocess", SimpleNamespace(Popen=refused, **_CONSTANTS))
        for cache in caches:
            cache.cache_clear()
        yield url
    for cache in caches:
        cache.cache_clear()
