"""Finds the Prefect server that a person's settings name, as Prefect itself reads them."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flows.core.errors import EngineUnavailable
from mcp_server.engine.values import Connection

_API_URL: Final = "PREFECT_API_URL"
_AUTH: Final = "PREFECT_API_AUTH_STRING"
_KEY: Final = "PREFECT_API_KEY"
_UI_URL: Final = "PREFECT_UI_URL"


def external_connection(environ: Mapping[str, str]) -> Connection | None:
    """The server that the environment or the active Prefect profile names, if one does.

    Raises:
        EngineUnavailable: The profiles file cannot be read.
    """
    settings: Mapping[str, Any] = environ
    if not environ.get(_API_URL):
        settings = {**_active_profile(environ), **{k: v for k, v in environ.items() if v}}
    api_url = str(settings.get(_API_URL) or "").rstrip("/")
    if not api_url:
        return None
    return Connection(
        api_url=api_url,
        auth_string=_text(settings, _AUTH),
        api_key=_text(settings, _KEY),
        ui_url=(_text(settings, _UI_URL) or api_url.removesuffix("/api")).rstrip("/"),
        embedded=False,
    )


def _text(settings: Mapping[str, Any], name: str) -> str | None:
    return str(settings.get(name) or "") or None


def _active_profile(environ: Mapping[str, str]) -> Mapping[str, Any]:
    path = _profiles_path(environ)
    try:
        profiles = tomllib.loads(path.read_text())
        name = environ.get("PREFECT_PROFILE") or profiles.get("active")
        return dict(profiles.get("profiles", {}).get(name, {}))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        # The last two: the content does not have the shape that Prefect writes.
        raise EngineUnavailable(
            f"The Prefect profiles in {path} cannot be read ({error})",
            "Correct that file, or set PREFECT_API_URL",
        ) from error


def _profiles_path(environ: Mapping[str, str]) -> Path:
    named = environ.get("PREFECT_PROFILES_PATH")
    if named:
        return Path(named).expanduser()
    home = environ.get("PREFECT_HOME") or f"{environ.get('HOME') or '~'}/.prefect"
    return Path(home).expanduser() / "profiles.toml"
