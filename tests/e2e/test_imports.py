import subprocess
import sys

import pytest

HEAVY = {"oumi", "torch", "transformers", "sky", "prefect", "numpy"}


@pytest.mark.parametrize("module", ["mcp_server.server", "mcp_server.cli"])
def test_the_mcp_server_loads_neither_oumi_nor_prefect(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert HEAVY & {name.partition(".")[0] for name in done.stdout.split()} == set()
