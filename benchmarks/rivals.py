"""
The teacher beside other engines for CPUs: same texts, same prompts, same threads. Part of `benchmarks/teacher.py --rivals`.

Each rival is a part, a process of its own, and its figures are in the JSON file before the next part begins; a part that is
there is not measured again. A rival whose engine is not installed is left out by name. Engines: `make engines`, or
`--llama_server PATH` for a `llama-server` that was built for this CPU (the wheel's is for any).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from engines import ROOT, VLLM, llamacpp, program, resident_mb, serving

TEACHER = str(ROOT / "assets/SmolLM2-135M-Instruct")
WARM = 4  # texts asked before the clock starts
SLOTS = 4  # of llama.cpp's server; more did not help on two cores
PARTS = (
    *("ours-float32", "ours-bfloat16"),
    *("llamacpp-Q4_1", "llamacpp-Q8_0", "llamacpp-F16"),
    *("vllm-float32", "vllm-bfloat16"),
    "openvino-float32",
)
LEFT_OUT = {
    "ours-int8": "int8 is not offered by this package: it moved a third of the labels (docs/teachers.md)",
    "openvino-int8": "optimum's default weights of 8 bits; pass --parts openvino-int8 to measure it too",
}


@dataclass(frozen=True)
class Asked:
    """
    What one prompt came to: the seconds of all texts, by how much the second label's score is above the first's (`None` where
    there are no scores), and the engine's memory.
    """

    seconds: float
    margins: list[float | None]
    memory_mb: float


def margin(scores: Sequence[float] | None) -> float | None:
    """By how much the second label's score is above the first's."""
    return scores[1] - scores[0] if scores else None


def timed(teacher: Any, task: Any, texts: Sequence[str]) -> tuple[float, list[float | None]]:
    """Seconds of the texts after those that warm up, and their margins."""
    for _ in teacher.ask(task, texts[:WARM]):
        pass
    start = time.perf_counter()
    found = {i: reply for part in teacher.ask(task, texts[WARM:]) for i, reply in part.items()}
    seconds = time.perf_counter() - start
    for reply in found.values():
        if reply.error:
            sys.stderr.write(f"{reply.error[:200]}\n")
            break
    return seconds, [margin(found[i].scores) for i in range(len(found))]


def own_memory() -> float:
    """Most memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(dtype: str, tasks: dict[str, Any], texts: Sequence[str], _: argparse.Namespace) -> Iterator[Asked]:
    """This package."""
    from hf_llambert import TransformersTeacher

    teacher = TransformersTeacher(TEACHER, dtype=dtype, device="cpu")
    for task in tasks.values():
        yield Asked(*timed(teacher, task, texts), own_memory())


def llamacpp_server(
    kind: str, tasks: dict[str, Any], texts: Sequence[str], arguments: argparse.Namespace
) -> Iterator[Asked]:
    """llama.cpp's server with the same weights in another type, through `EndpointTeacher`; slots and prefix cache on."""
    from hf_llambert import EndpointTeacher

    options = ("--parallel", str(SLOTS), "--threads", str(arguments.threads), "--ctx-size", str(SLOTS * 2048))
    command = llamacpp(kind, *options, binary=arguments.llama_server)
    with tempfile.TemporaryDirectory() as folder, serving(command, Path(folder) / "log") as (url, process):
        teacher = EndpointTeacher("smollm2", url, mode="score", concurrency=SLOTS, timeout=600)
        for task in tasks.values():
            yield Asked(*timed(teacher, task, texts), resident_mb(process.pid))


def vllm(dtype: str, tasks: dict[str, Any], texts: Sequence[str], _: argparse.Namespace) -> Iterator[Asked]:
    """vLLM on the CPU, through `VLLMTeacher`; for vLLM's own Python."""
    from hf_llambert import VLLMTeacher

    teacher = VLLMTeacher(TEACHER, dtype=dtype, enforce_eager=True, max_model_len=2048)
    for task in tasks.values():
        yield Asked(*timed(teacher, task, texts), resident_mb(os.getpid()))


def openvino(dtype: str, tasks: dict[str, Any], texts: Sequence[str], _: argparse.Namespace) -> Iterator[Asked]:
    """OpenVINO's runtime through optimum, sorted batches of 8 prompts; for the Python of build/engines/openvino."""
    import torch
    from optimum.intel import OVModelForCausalLM

    from hf_llambert.teachers.prompting import PromptEncoder

    model = OVModelForCausalLM.from_pretrained(
        TEACHER,
        export=True,
        load_in_8bit=dtype == "int8",
        ov_config={"INFERENCE_PRECISION_HINT": "f32"},
        trust_remote_code=False,
    )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TEACHER, trust_remote_code=False)
    tokenizer.padding_side = "left"

    for task in tasks.values():
        encoder = PromptEncoder(tokenizer, task)

        def ask(rows: Sequence[str], encoder: PromptEncoder = encoder) -> list[float | None]:
            prompts = [encoder.encode(text) for text in rows]
            order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
            found: list[float | None] = [None] * len(prompts)
            for start in range(0, len(order), 8):
                batch = order[start : start + 8]
                padded = tokenizer.pad({"input_ids": [list(prompts[i]) for i in batch]}, return_tensors="pt")
                last = model(**padded).logits[:, -1].float().log_softmax(-1)
                for i, row in zip(batch, last, strict=True):
                    words = [torch.stack([row[word[0]] for word in of_label]) for of_label in encoder.words]
                    found[i] = margin([float(of_label.logsumexp(0)) for of_label in words])
            return found

        ask(texts[:WARM])
        start = time.perf_counter()
        margins = ask(texts[WARM:])
        yield Asked(time.perf_counter() - start, margins, own_memory())


MEASURES = {"ours": ours, "llamacpp": llamacpp_server, "vllm": vllm, "openvino": openvino}
PYTHONS = {"vllm": "vllm", "openvino": "openvino"}  # whose part runs in the engine's own Python


def tasks_of(given: dict[str, Any]) -> dict[str, Any]:
    """The prompts that are asked: the question about reviews whose words are single tokens, without and with two examples."""
    from hf_llambert import load_task
    from hf_llambert.tasks.spec import Example

    task = load_task(ROOT / "recipes/tasks/imdb_question.yaml")
    task = replace(task, verbalizers=(("Negative", "negative"), ("Positive", "positive")))
    shots = tuple(Example(text, task.labels[number]) for text, number in given["examples"])
    return {"0shot": task, "2shot": replace(task, examples=shots)}


def child(arguments: argparse.Namespace) -> None:
    """Measure one part and write what came of it."""
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HUB_OFFLINE = (
        False  # else no endpoint is asked; nothing here goes further than the loopback
    )
    engine, _, kind = arguments.part.partition("-")
    given = json.loads(arguments.given.read_text(encoding="utf-8"))
    tasks = tasks_of(given)
    measured = MEASURES[engine](kind, tasks, given["texts"], arguments)
    found = {shots: asdict(one) for shots, one in zip(tasks, measured, strict=True)}
    arguments.out.write_text(json.dumps(found), encoding="utf-8")


def run_part(name: str, given: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """
    What a part measured, in a process of its own.

    Raises:
        FileNotFoundError: Its engine is not installed.
        RuntimeError: It ended with an error.
    """
    engine = name.partition("-")[0]
    python = program(PYTHONS[engine]) if engine in PYTHONS else sys.executable
    if engine == "llamacpp" and not arguments.llama_server:
        program("llamacpp")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [python, __file__, "--part", name, "--given", str(given), "--out", str(out)]
        command += ["--threads", str(arguments.threads)]
        command += ["--llama_server", arguments.llama_server] if arguments.llama_server else []
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "benchmarks")])}
        threads = {"OMP_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command,
            env={**os.environ, **(VLLM if engine == "vllm" else {}), **threads, **paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}: {done.stdout.strip()[-1500:]}")
        return dict(json.loads(out.read_text(encoding="utf-8")))


def measure(bench: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """The parts that the file lacks, each written before the next; `bench` has the texts, the tokens and the floor."""
    path: Path = arguments.rivals
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    about: dict[str, Any] = {
        "num_texts": arguments.num_texts,
        "threads": arguments.threads,
        "device": platform.processor() or platform.machine(),
        "tokens": {shots: bench.tokens(shots) for shots in bench.tasks},
        "parameters": bench.parameters,
    }
    about = json.loads(json.dumps(about))  # as it comes back from the file
    if results.get("about", about) != about:
        raise ValueError(f"{path} is of other texts or threads: {results['about']}. Give another file, or remove it.")
    results |= {"about": about, "parts": results.get("parts", {}), "left_out": dict(LEFT_OUT)}
    shots = bench.tasks["2shot"].examples
    given = {
        "texts": bench.texts[: arguments.num_texts + WARM],
        "examples": [(one.text, bench.tasks["2shot"].labels.index(one.label)) for one in shots],
    }
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "given.json"
        texts.write_text(json.dumps(given), encoding="utf-8")
        for name in arguments.parts or PARTS:
            if name in results["parts"]:
                continue
            before = bench.rate()
            try:
                found = run_part(name, texts, arguments)
            except FileNotFoundError as error:
                results["left_out"][name] = str(error)
            except RuntimeError as error:
                results["left_out"][name] = str(error)[-600:]
            else:
                results["parts"][name] = {"rate": (before + bench.rate()) / 2, **found}
            part = path.with_suffix(".part")
            part.write_text(json.dumps(results, indent=1), encoding="utf-8")
            part.replace(path)
            sys.stderr.write(f"{name}: {'measured' if name in results['parts'] else 'left out'}\n")
    return results


def agreement(found: Sequence[float | None], wanted: Sequence[float]) -> tuple[float, float]:
    """
    The share of texts on the same side of the median of float32's margins (a small model calls almost all texts by one label,
    so that the likeliest label would say nothing), and the mean distance of the margins. A text without scores agrees not.
    """
    middle = median(wanted)
    pairs = [(one, two) for one, two in zip(found, wanted, strict=True) if one is not None]
    same = sum((one > middle) == (two > middle) for one, two in pairs) / len(wanted)
    return same, sum(abs(one - two) for one, two in pairs) / len(pairs) if pairs else float("nan")


def table(results: dict[str, Any]) -> str:
    """The measurements as Markdown, and who was left out."""
    about, parts = results["about"], results["parts"]
    lines = [
        "| prompt | engine | texts/s | tokens/s | share of the float32 floor | sides as in float32 | margins off by | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for shots, (whole, own) in about["tokens"].items():
        reference = parts.get("ours-float32", {}).get(shots, {}).get("margins")
        for name, found in parts.items():
            one = found[shots]
            speed = len(one["margins"]) / one["seconds"]
            share = 2 * about["parameters"] * own * speed / found["rate"]
            same, off = agreement(one["margins"], reference) if reference else (float("nan"), float("nan"))
            lines.append(
                f"| {shots} | {name} | {speed:.2f} | {whole * speed:,.0f} | {share:.0%} | {same:.1%} | {off:.3f} | "
                f"{one['memory_mb']:,.0f} |"
            )
    out = [
        f"- left out: {name}: {why.splitlines()[-1]}" for name, why in results["left_out"].items() if name not in parts
    ]
    return "\n".join([*lines, "", *out])


def arguments_of_a_part() -> argparse.Namespace:
    """The command line with which `run_part` starts this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", required=True)
    parser.add_argument("--given", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--llama_server")
    return parser.parse_args()


if __name__ == "__main__":  # vLLM starts its engine in a process that imports this file
    child(arguments_of_a_part())
