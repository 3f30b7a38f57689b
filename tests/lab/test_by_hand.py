"""``python -m tests.lab``."""

import os
import pwd
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import REPOSITORY
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("ends_it", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_lab_brought_up_by_hand_is_reached_as_it_says_and_leaves_nothing(
    tmp_path: Path, ends_it: signal.Signals
) -> None:
    said, errors = tmp_path / "said", tmp_path / "errors"
    with said.open("w") as out, errors.open("w") as err:
        lab = subprocess.Popen(
            [sys.executable, "-m", "tests.lab"],
            cwd=REPOSITORY,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        eventually_sync(lambda: lab.poll() is not None or "sinfo" in said.read_text(), timeout=120)
        if lab.poll() == 1 and "No lab on this machine" in errors.read_text():
            pytest.skip(errors.read_text())
        assert lab.poll() is None, errors.read_text()
        exports = "\n".join(re.findall(r"^export .+$", said.read_text(), re.MULTILINE))
        asked = subprocess.run(
            [
                "bash",
                "-c",
                f'{exports}\nssh "$OUMI_SLURM_CONNECTIONS" "sinfo -h -o %T; whoami; pwd"',
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        state, user, home = asked.stdout.split()
        assert state == "idle"
        assert pwd.getpwnam(user).pw_dir == home
    finally:
        if lab.poll() is None:
            os.kill(lab.pid, ends_it)
        assert lab.wait(60) == 0, errors.read_text()
    with pytest.raises(KeyError):
        pwd.getpwnam(user)
    assert not Path(home).parent.exists()
