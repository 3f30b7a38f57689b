"""A home folder and an environment of the test session's own."""

import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

MARKER_ENV = "OUMI_FLOWS_TEST_SESSION"
"""Every process a test starts, at any depth, inherits this variable."""

_KEPT = frozenset({"OUMI_FLOWS_SCREENSHOTS"})
_SCRUBBED_PREFIXES = ("OUMI_", "PREFECT_", "SKYPILOT_")
_SCRUBBED = ("PYTHONDONTWRITEBYTECODE",)


@dataclass(frozen=True)
class SessionIsolation:
    """The folder and the marker of one test session."""

    root: Path
    marker: str
    environment: dict[str, str]

    @classmethod
    def enter(cls) -> "SessionIsolation":
        """Point HOME and everything derived from it into a new folder."""
        saved = dict(os.environ)
        root = Path(tempfile.mkdtemp(prefix="oumi-flows-tests-"))
        home = root / "home"
        home.mkdir()
        marker = uuid.uuid4().hex
        for name in saved:
            if name in _KEPT:
                continue
            if name.startswith(_SCRUBBED_PREFIXES) or name in _SCRUBBED:
                del os.environ[name]
        os.environ.update(
            {
                MARKER_ENV: marker,
                "HOME": str(home),
                "OUMI_FLOWS_HOME": str(home / ".oumi-flows"),
                "OUMI_FLOWS_CONFIGS_URL": "off",
                "OUMI_FLOWS_WARM_START": "off",
                "PREFECT_HOME": str(home / ".prefect"),
                "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "DO_NOT_TRACK": "1",
                "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "1",
            }
        )
        return cls(root=root, marker=marker, environment=saved)

    def leave(self) -> None:
        """Give the environment back and remove the folder."""
        os.environ.clear()
        os.environ.update(self.environment)
        shutil.rmtree(self.root, ignore_errors=True)
