"""Every benchmark, one after the other; their rows in one table and one JSON file.

python -m benchmarks [--json FILE] [NAME ...]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.support import Row, markdown

NAMES = [
    "server_start",
    "submit",
    "reads",
    "log_reading",
    "cancelling",
    "burst",
    "cold_start",
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    found: list[dict[str, Any]] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names or NAMES:
            path = Path(folder, f"{name}.json")
            command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(path)]
            print(f"\n== {name}", flush=True)
            if subprocess.run(command, check=False).returncode:
                failed.append(name)
            else:
                found.append(json.loads(path.read_text()))
    rows = [Row(**row) for one in found for row in one["rows"]]
    print(f"\n== all\n{markdown(rows)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
