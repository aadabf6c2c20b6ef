"""
Asks `VLLMTeacher` what tests/engines/test_engine_vllm.py compares, in the Python of build/engines/vllm, and writes it as JSON.

    build/engines/vllm/bin/python tests/engines/ask_vllm.py ANSWERS.json ADAPTER
"""

import dataclasses
import json
import sys
from pathlib import Path

from asked import MODEL, PLAIN, QUESTION, REVIEWS, SEVERAL, replies

from hf_llambert import VLLMTeacher
from hf_llambert.teachers import vllm as engine_of


def main(out: Path, adapter: str) -> None:
    """One engine for the model, then one with the adapter."""
    teacher = VLLMTeacher(MODEL, dtype="float32", enforce_eager=True, max_model_len=1024)
    generate = dataclasses.replace(teacher, mode="generate", max_new_tokens=12)
    structured = dataclasses.replace(generate, structured=True)
    branches = [branch for found in SEVERAL.branches.values() for branch in found]
    together = {i: of_text for part in teacher.ask_branches(branches, REVIEWS) for i, of_text in part.items()}
    answers: dict[str, object] = {
        "plain": [reply.scores for reply in replies(teacher, PLAIN)],
        "question": [reply.scores for reply in replies(teacher, QUESTION)],
        "generate": [reply.response for reply in replies(generate, QUESTION)],
        "structured": [reply.response for reply in replies(structured, QUESTION)],
        "structured_several": [reply.response for reply in replies(structured, SEVERAL)],
        "branches": [[reply.scores for reply in together[i]] for i in range(len(REVIEWS))],
    }
    (engine,) = engine_of._LOADED.values()
    prompt = [engine.get_tokenizer()("The film is about a man and his dog. " * 20).input_ids] * 2
    outputs = [engine.generate([{"prompt_token_ids": ids}], use_tqdm=False)[0] for ids in prompt]
    answers["cached_tokens"] = [output.num_cached_tokens for output in outputs]
    out.write_text(json.dumps(answers), encoding="utf-8")  # with the adapter below
    engine_of._LOADED.clear()
    del engine
    adapted = dataclasses.replace(teacher, adapter=adapter)
    answers["adapted"] = [reply.scores for reply in replies(adapted, QUESTION)]
    out.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":  # vLLM starts its engine in a process that imports this file
    main(Path(sys.argv[1]), sys.argv[2])
