"""Write the logs of the corpus: run each scene with the real tools, and keep the end of its log.

    python -m tests.diagnosis.provoking [NAME...]

Forks a process that has imported the tools, so that a scene costs a second instead of ten. Needs
root, for the scenes with a small file system.
"""

import gc
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.diagnosis.provoking import (
    broken_data,
    broken_networks,
    broken_programs,
    full_disks,
    hub_and_packages,
    later_data,
    later_machine,
    little_memory,
    no_failures,
)
from tests.diagnosis.provoking.scene import Scene

ROOT = Path(__file__).parents[3]
LOGS = Path(__file__).parents[1] / "logs"
LAB = ROOT / ".cache/lab"
TAIL_LINES = 60
LIMIT_SECONDS = 90
MODULES = (
    broken_data,
    broken_networks,
    broken_programs,
    full_disks,
    hub_and_packages,
    later_data,
    later_machine,
    little_memory,
    no_failures,
)
TIDY = [
    (re.compile(re.escape(str(LAB)) + r"/[\w-]+"), "/home/user/project"),
    (re.compile(re.escape(str(ROOT / ".venv"))), "/opt/venv"),
    (re.compile(re.escape(str(ROOT))), "/opt/app"),
    (re.compile(r"/root\b"), "/home/user"),
    (re.compile(re.escape(socket.gethostname())), "node-1"),
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), ""),
]


def main() -> None:
    wanted = set(sys.argv[1:])
    scenes = [scene for module in MODULES for scene in module.SCENES]
    assert len({scene.name for scene in scenes}) == len(scenes), "two scenes of one name"
    os.environ |= {
        "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200",
        "PYTHONUNBUFFERED": "1", "HF_HOME": str(LAB / "hf"), "TOKENIZERS_PARALLELISM": "false",
        "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}",
    }  # fmt: skip
    if not (LAB / "data").exists():
        command = [sys.executable, ROOT / "examples/tiny/make_tiny.py", LAB / "data"]
        subprocess.run(command, check=True)
    LOGS.mkdir(exist_ok=True)
    index_path = LOGS / "provoked.json"
    index = json.loads(index_path.read_text()) if index_path.exists() else {}
    _import_tools()
    for scene in scenes:
        if wanted and scene.name not in wanted:
            continue
        if not wanted and scene.name in index:
            continue
        log, code = _run(scene)
        (LOGS / f"{scene.name}.log").write_text(log)
        index[scene.name] = {"kind": scene.kind, "exit_code": code}
        index_path.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
        print(
            f"{scene.name:42} {scene.kind:14} {code:4}  {log.rstrip().rsplit(chr(10), 1)[-1][:120]}",
            flush=True,
        )


def _import_tools() -> None:
    import datasets  # noqa: F401
    import oumi
    import oumi.cli.main
    import peft  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from trl import SFTConfig, SFTTrainer  # noqa: F401

    # Each scene imports this module itself, which replaces the function of the same name.
    function = oumi.train
    import oumi.train

    del sys.modules["oumi.train"]
    oumi.train = function
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


def _run(scene: Scene) -> tuple[str, int]:
    folder = LAB / scene.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "data").symlink_to(LAB / "data")
    shutil.copy(Path(__file__).with_name("tiny.py"), folder)
    script = folder / ("run.sh" if scene.shell else "train.py")
    script.write_text(scene.script.strip() + "\n")
    path = folder / "log.txt"
    with path.open("wb") as log:
        pid = os.fork()
        if pid == 0:
            _be(script, log.fileno())
        code = _wait(pid)
    shutil.copy(path, LAB / f"{scene.name}.txt")
    text = _tidy(path.read_bytes().decode("utf-8", "replace"))
    subprocess.run(["umount", folder / "disk"], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(folder, ignore_errors=True)
    return text, code


def _be(script: Path, log: int) -> None:
    """Become the process of a scene; does not return."""
    os.setsid()
    os.chdir(script.parent)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if script.suffix == ".sh":
        os.execvp("bash", ["bash", script.name])
    sys.argv = [str(script)]
    sys.path.insert(0, str(script.parent))
    main_module = type(sys)("__main__")
    main_module.__file__ = str(script)
    sys.modules["__main__"] = main_module
    code = 0
    try:
        exec(compile(script.read_text(), str(script), "exec"), main_module.__dict__)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001  # as Python itself would show it
        if error.__traceback__:
            error.__traceback__ = error.__traceback__.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(pid: int) -> int:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        time.sleep(0.05)
    else:
        print("too long", flush=True)
        os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def _tidy(text: str) -> str:
    for pattern, neutral in TIDY:
        text = pattern.sub(neutral, text)
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip()[:1000] for line in text.split("\n")]
    return "\n".join(lines[-TAIL_LINES - 1 :]).strip("\n") + "\n"


if __name__ == "__main__":
    main()
