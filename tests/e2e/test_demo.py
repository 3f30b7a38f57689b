import re
import subprocess
import sys
from pathlib import Path

from tests.support.stack import REPOSITORY, Stack


def test_the_demo_trains_through_an_mcp_client_and_says_where_everything_is(
    stack: Stack, tmp_path: Path
) -> None:
    folder = tmp_path / "demo folder"
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "demo.py"), str(folder)],
        env=dict(stack.env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = dict(
        re.findall(r"^  (state|loss|checkpoint|log|Prefect UI) +(.*)$", done.stdout, re.M)
    )
    first, last = map(float, report["loss"].split(" -> "))
    assert report["state"] == "succeeded"
    assert last < first / 2
    assert (Path(report["checkpoint"]) / "trainer_state.json").is_relative_to(folder)
    assert (Path(report["checkpoint"]) / "trainer_state.json").exists()
    assert Path(report["log"]).exists()
    assert report["Prefect UI"].startswith(stack.connection.ui_url)
    assert re.search(r"step \d+ of 60, loss", done.stdout), "no live progress"
