"""Whether the engine starts with this machine, as docs/schedules.md sets it up."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

UNIT: Final = "oumi-flows.service"
_AGENTS: Final = "*oumi-flows*.plist"


def starts_by_itself(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether systemd or launchd is set to start the engine."""
    home = Path(environ.get("HOME") or Path.home())
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    units = (
        config / "systemd/user/default.target.wants" / UNIT,
        Path("/etc/systemd/user/default.target.wants") / UNIT,
        Path("/etc/systemd/system/multi-user.target.wants") / UNIT,
    )
    folders = (home / "Library/LaunchAgents", Path("/Library/LaunchDaemons"))
    return any(os.path.lexists(unit) for unit in units) or any(
        any(folder.glob(_AGENTS)) for folder in folders
    )
