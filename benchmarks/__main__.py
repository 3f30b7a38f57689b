"""Every benchmark, one after the other; their rows in one table, a JSON file, a page.

python -m benchmarks [--json FILE] [--page docs/benchmarks.md] [NAME ...]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.support import REPOSITORY, Row, markdown

NAMES = [
    "server_start",
    "submit",
    "api_calls",
    "reads",
    "catalogue",
    "checking",
    "log_reading",
    "metrics",
    "cancelling",
    "burst",
    "watching",
    "cold_start",
    "warm_start",
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--page", type=Path, help="put the results into this page, in their place")
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
            if subprocess.run(command, cwd=REPOSITORY, check=False).returncode:
                failed.append(name)
            else:
                found.append(json.loads(path.read_text()))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    if arguments.page:
        put_into(arguments.page, found)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def put_into(page: Path, found: list[dict[str, Any]]) -> None:
    """Replace the section of each benchmark in a page, and leave the rest."""
    text = page.read_text()
    for one in found:
        begin, end = f"<!-- {one['benchmark']} -->\n", f"<!-- /{one['benchmark']} -->"
        before, _, rest = text.partition(begin)
        text = before + begin + section(one) + end + rest.partition(end)[2]
    page.write_text(text)


def section(one: dict[str, Any]) -> str:
    """The results of one benchmark, and what they depend on."""
    facts = one["machine"]
    table = markdown([Row(**row) for row in one["rows"]])
    return (
        f"{facts['date']}; {facts['cpus']} CPUs, load {facts['load']} before; "
        f"{facts['system']}, Python {facts['python']}, Prefect {facts['prefect']}, "
        f"MCP SDK {facts['mcp']}, Oumi {facts['oumi']}.\n\n{table}\n\n"
    )


if __name__ == "__main__":
    sys.exit(main())
