"""The control groups of local jobs, as tests look for them."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.launcher.local.control_group import ControlGroup
from tests.support.waiting import eventually_sync


def can_make_groups() -> bool:
    """Whether a job that this process launches gets a control group."""
    group = ControlGroup.create(f"oumi-flows-probe-{uuid.uuid4().hex}")
    if group is None:
        return False
    can_fill = group.add(os.getpid()) and _leave(group)
    group.remove()
    return can_fill


def groups_left(root: Path) -> list[Path]:
    """The groups that jobs with folders below `root` had, and that are still there."""
    left: list[Path] = []
    for record in root.glob("**/jobs/*/process"):
        with suppress(ValueError, OSError):  # what a test has cut
            group = json.loads(record.read_bytes()).get("control_group")
            if group and Path(group).is_dir():
                left.append(Path(group))
    return left


@contextmanager
def delegated_group(uid: int) -> Iterator[ControlGroup]:
    """A group that the user `uid` may make groups in, as systemd delegates a unit; needs root."""
    group = ControlGroup.create(f"oumi-flows-delegated-{uuid.uuid4().hex}")
    assert group is not None
    for path in (group.path, group.path / "cgroup.procs"):
        os.chown(path, uid, uid)
    try:
        yield group
    finally:
        group.kill()
        eventually_sync(lambda: not group.is_populated())
        group.remove()


def _leave(group: ControlGroup) -> bool:
    return ControlGroup(group.path.parent).add(os.getpid())
