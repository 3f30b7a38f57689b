"""An evaluation of our own: the share of answers that are exactly right.

Oumi loads it when ``OUMI_EXTRA_DEPS_FILE=extra_deps.txt`` is set.
"""

import json
from pathlib import Path
from typing import Any

from oumi.core.configs import EvaluationConfig
from oumi.core.configs.params.evaluation_params import EvaluationTaskParams
from oumi.core.inference import BaseInferenceEngine
from oumi.core.registry import register_evaluation_function
from oumi.core.types.conversation import Conversation


@register_evaluation_function("tiny_exact_match")
def tiny_exact_match(
    task_params: EvaluationTaskParams,
    config: EvaluationConfig,
    inference_engine: BaseInferenceEngine,
    path: str,
) -> dict[str, Any]:
    """Asks the model every question of a JSONL file and compares its answers."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()[: task_params.num_samples]
    conversations = [json.loads(line)["messages"] for line in lines]
    questions = [Conversation.model_validate({"messages": c[:-1]}) for c in conversations]
    answered = inference_engine.infer(questions)
    answers = [str(conversation.last_message().content).strip() for conversation in answered]
    correct = sum(a == c[-1]["content"] for a, c in zip(answers, conversations, strict=True))
    return {"exact_match": correct / len(conversations), "num_samples": len(conversations)}
