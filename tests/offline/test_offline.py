"""With the network cut every tool answers, and soon.

In the namespace packets to anywhere but this machine vanish without an answer, name servers'
included, which is worse than being refused: whoever waits for one waits for its time limit.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import REPOSITORY

CUT = """\
ip link set lo up
ip link add gone type veth peer name nobody
ip addr add 10.111.0.1/24 dev gone
ip link set nobody up
ip link set gone up
ip route add default via 10.111.0.2
ip neigh add 10.111.0.2 lladdr 02:00:00:00:00:02 dev gone
exec "$@"
"""
NAMESPACE = ["unshare", "--user", "--map-root-user", "--net", "sh", "-e", "-c", CUT, "sh"]
LONGEST_SECONDS = 3.0


def can_cut() -> bool:
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.nightly
@pytest.mark.engine
@pytest.mark.skipif(not can_cut(), reason="no network namespaces here")
@pytest.mark.parametrize("world", ["here", "remote"])
def test_with_the_network_cut_every_tool_answers_soon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], world: str
) -> None:
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "tests.offline.every_tool", str(tmp_path), world],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(f"\ntools/list after {found['listed_seconds']:.2f} s")
        for tool, answer in found["tools"].items():
            print(f"{answer['seconds']:6.2f} s  {tool}: {answer['says'][:150]}")
    late = {tool: a["seconds"] for tool, a in found["tools"].items()}
    assert {tool: s for tool, s in late.items() if s > LONGEST_SECONDS} == {}
    assert not [a["says"] for a in found["tools"].values() if "INTERNAL" in a["says"]]
