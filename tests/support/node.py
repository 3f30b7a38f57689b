"""The Node that the lock file installs, and the packages that scripts/provision fetches."""

import sys
from pathlib import Path

import pytest

NODE = Path(sys.executable).with_name("node")
INTEROP = Path(__file__).parents[1] / "interop"
NODE_MODULES = INTEROP / "js" / "node_modules"

needs_node_packages = pytest.mark.skipif(
    not (NODE_MODULES / ".package-lock.json").exists(),
    reason="Node packages: run scripts/provision",
)
