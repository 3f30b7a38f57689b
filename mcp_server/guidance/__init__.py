"""Prose for models, as Markdown files."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

_CONDITIONAL: Final = re.compile(r"(?P<mark>1\.|-) \[(?P<tools>[a-z_, ]+)\] (?P<text>.*)")

GUIDES: Final = {
    "mle-workflow": "From a request to a trained model: order of work, choice of method, memory.",
    "mle-train": "Training configs: SFT, LoRA, DPO, KTO, GRPO, distillation, tuning; failures.",
    "mle-synth": "Generating training data with a model.",
    "mle-analyze": "Statistics and tests of a data set before training.",
    "mle-eval": "Evaluating, comparing like with like, traps of the backends.",
    "mle-infer": "Batch inference: exact input and output format, engines.",
    "cloud-launch": "Job configs for clouds: what is synced, what is lost, getting results back.",
    "post-training": "After a training: secure weights, merge, train further, quantize, publish.",
    "jobs-and-schedules": "Following, retrying, cancelling and scheduling jobs.",
    "pipelines-and-sweeps": "The format of pipelines and sweeps, with examples.",
}
"""The guides that are served as ``guidance://<name>``, and when to read each."""


def read_guidance(name: str, **values: str) -> str:
    """Read ``<name>.md`` with each ``{key}`` replaced by its value."""
    return _text(name).format(**values)


def read_offered(name: str, offered: Collection[str], **values: str) -> str:
    """Read ``<name>.md`` without the steps that need tools which are not offered.

    Such a step begins with the tools it needs: ``1. [get_docs] ...`` is numbered, ``- [get_docs]
    ...`` is a sentence. Of steps with the same first tool, keep the
    first one whose tools are all offered.
    """
    lines: list[str] = []
    covered: set[str] = set()
    for line in _text(name).splitlines():
        step = _CONDITIONAL.fullmatch(line)
        if step is None:
            lines.append(line)
            continue
        needed = step["tools"].split(", ")
        if needed[0] in covered or not set(needed) <= set(offered):
            continue
        covered.add(needed[0])
        lines.append(f"{len(covered)}. {step['text']}" if step["mark"] == "1." else step["text"])
    return "\n".join(lines).format(**values)


def read_guide(name: str) -> str:
    """Read the text of a guide."""
    return _text(name)


def _text(name: str) -> str:
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8")
