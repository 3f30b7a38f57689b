"""A wall clock that a test can set, for the processes it starts."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

_SOURCE = Path(__file__).with_name("shifted_clock.c")
_COMPILER = shutil.which("cc")

can_shift_clocks = sys.platform == "linux" and _COMPILER is not None


class ShiftedClock:
    """The clock of every process started in its environment.

    Args:
        folder: Where to keep what makes it work, for as long as those processes live.
    """

    def __init__(self, folder: Path) -> None:
        assert _COMPILER is not None
        library = folder / "shifted_clock.so"
        command = [_COMPILER, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True)
        self._shift = folder / "clock"
        self._seconds = 0
        self._write()
        self.environ = {"LD_PRELOAD": str(library), "OUMI_FLOWS_TEST_CLOCK": str(self._shift)}

    def jump(self, seconds: int) -> None:
        """Set the clock forward, or back when negative; takes effect at once."""
        self._seconds += seconds
        self._write()

    def _write(self) -> None:
        # In place: the file is mapped by the processes.
        with self._shift.open("r+b" if self._shift.exists() else "w+b") as file:
            file.write(struct.pack("l", self._seconds))
