"""
The teacher's speed: the paper's protocol, pipeline("text-generation") and this package, on the same texts and model.

    OMP_NUM_THREADS=2 python benchmarks/teacher.py --json teacher.json            # about ten minutes on 2 cores
    OMP_NUM_THREADS=2 python benchmarks/teacher.py --quick --json teacher.json    # within six minutes
    OMP_NUM_THREADS=1 python benchmarks/teacher.py --questions 6                  # several questions against one
    OMP_NUM_THREADS=2 python benchmarks/teacher.py --rivals rivals.json           # llama.cpp, vLLM, OpenVINO: see rivals.py

Needs `make assets`. The floor of a text is 2 × the model's parameters outside its embeddings × its tokens that no other
text shares, over the rate of a 2048³ matrix product measured between the runs, on the same device and in the same type.
Every system is timed in rounds that take turns, and its median counts, so that a machine that slows down for a while
slows all of them.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import rivals
import torch
import transformers
from datasets import load_dataset
from transformers import pipeline

from hf_llambert import TaskSpec, TransformersTeacher, load_task
from hf_llambert.models import choose_device, choose_dtype
from hf_llambert.tasks.kinds import Choice, Scale
from hf_llambert.tasks.spec import Example
from hf_llambert.tasks.texts import cut_text
from hf_llambert.teachers.prompting import PromptEncoder
from hf_llambert.teachers.tries import common

ROOT = Path(__file__).parent.parent
TEACHER = str(ROOT / "assets/SmolLM2-135M-Instruct")
TOKENS = 200
ROWS = {"paper": 3, "pipeline": 8, "generate": 8, "score": 24}  # texts in a round, on a CPU
PIPELINE_BATCHES = (1, 4, 8, 16)
QUESTIONS = (
    Choice(
        "tone", ("positive", "negative"), "Is this review of a movie positive or negative? Answer with one word only."
    ),
    Choice("actors", ("good", "bad", "unsaid"), "What does the reviewer say about the acting: good, bad or unsaid?"),
    Choice("ending", ("yes", "no"), "Does the review give away how the movie ends, yes or no?"),
    Scale("stars", ("1", "2", "3", "4", "5"), "How many stars of five does the reviewer give to this movie?"),
    Choice("genre", ("comedy", "drama", "horror"), "Of what genre is the movie: comedy, drama or horror?"),
    Choice("advice", ("watch", "avoid"), "What would the reviewer tell a good friend to do: watch or avoid it?"),
)


def reviews(tokenizer: object, count: int) -> tuple[list[str], list[dict]]:
    """Reviews cut to 200 tokens, in the order of a seeded shuffle, and two more as worked examples."""
    rows = load_dataset("parquet", data_files=str(ROOT / "assets/imdb_train.parquet"), split="train")
    rows = rows.shuffle(seed=42).select(range(count + 2))
    cut = [cut_text(tokenizer, text, TOKENS, 0.5)[0] for text in rows["text"]]
    return cut[2:], [{"text": text, "label": label} for text, label in zip(cut[:2], rows["label"][:2], strict=True)]


class Bench:
    """One model, its texts and the systems that are asked about them."""

    def __init__(self, model: str, rows: dict[str, int], batch_tokens: int | None, dtype: str) -> None:
        self.teacher = TransformersTeacher(model, dtype=dtype, batch_tokens=batch_tokens)  # type: ignore[arg-type]
        self.rows = rows
        engine = self.teacher._load(None)
        self.tokenizer, self.model, self.device = engine.tokenizer, engine.model, engine.model.device
        question = load_task(ROOT / "recipes/tasks/imdb_question.yaml")
        self.texts, shots = reviews(self.tokenizer, max(rows.values()))
        examples = tuple(Example(shot["text"], question.labels[shot["label"]]) for shot in shots)
        self.tasks = {"0shot": question, "2shot": replace(question, examples=examples)}
        embeddings = {id(self.model.get_input_embeddings().weight), id(self.model.get_output_embeddings().weight)}
        self.parameters = sum(p.numel() for p in self.model.parameters() if id(p) not in embeddings)
        self.pipe = pipeline(
            "text-generation",
            model=self.model,
            tokenizer=self.tokenizer,
            device=self.device,
            trust_remote_code=False,
        )

    def systems(self, shots: str, batch_size: int) -> dict[str, Callable[[list[str]], None]]:
        """What is timed, by name."""
        task = self.tasks[shots]
        generate = replace(self.teacher, mode="generate")
        return {
            "paper": lambda texts: self.paper(task, texts),
            "pipeline": lambda texts: self.pipeline(task, texts, batch_size),
            "generate": lambda texts: [None for _ in generate.ask(task, texts)],
            "score": lambda texts: [None for _ in self.teacher.ask(task, texts)],
        }

    @torch.inference_mode()
    def paper(self, task: TaskSpec, texts: list[str]) -> None:
        """One prompt at a time, sampled at temperature 1 from 50 tokens, 10 new tokens."""
        for text in texts:
            prompt = self.tokenizer.apply_chat_template(
                task.messages(text), add_generation_prompt=True, return_tensors="pt", return_dict=True
            ).to(self.device)
            self.model.generate(**prompt, do_sample=True, temperature=1.0, top_k=50, max_new_tokens=10)

    def pipeline(self, task: TaskSpec, texts: list[str], batch_size: int) -> None:
        """The stock pipeline, greedy."""
        self.pipe([task.messages(t) for t in texts], batch_size=batch_size, max_new_tokens=10, do_sample=False)

    def timed(self, run: Callable[[list[str]], None], texts: list[str]) -> float:
        """Seconds a text."""
        start = time.perf_counter()
        run(texts)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / len(texts)

    def rate(self) -> float:
        """Floating point operations a second of a 2048³ matrix product."""
        a = torch.randn(2048, 2048, device=self.device, dtype=self.model.dtype)
        best = 9e9
        for _ in range(5):
            start = time.perf_counter()
            a @ a
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        return 2 * 2048**3 / best

    def tokens(self, shots: str) -> tuple[float, float]:
        """Mean tokens of a prompt, and of the part that is its own."""
        encoder = PromptEncoder(self.tokenizer, self.tasks[shots])
        prompts = [encoder.encode(text) for text in self.texts]
        mean = sum(map(len, prompts)) / len(prompts)
        return mean, mean - encoder.shared(prompts)

    def best_batch_size(self, shots: str) -> int:
        """The pipeline's fastest batch size on one round of texts."""
        texts = self.texts[: self.rows["pipeline"]]
        seconds = {
            b: self.timed(lambda t, b=b: self.pipeline(self.tasks[shots], t, b), texts) for b in PIPELINE_BATCHES
        }
        return min(seconds, key=seconds.__getitem__)

    def measure(self, shots: str, rounds: int) -> dict:
        """Seconds a text of each system (median over the rounds), and what follows from them."""
        batch_size = self.best_batch_size(shots)
        systems = self.systems(shots, batch_size)
        for name, run in systems.items():
            run(self.texts[: 2 if name == "paper" else 4])  # warm up
        seconds: dict[str, list[float]] = {name: [] for name in systems}
        shares: dict[str, list[float]] = {name: [] for name in systems}
        ratios: dict[str, list[float]] = {"paper": [], "pipeline": []}
        whole, own = self.tokens(shots)
        for k in range(rounds):
            for name, run in systems.items():
                n, rate = self.rows[name], self.rate()
                texts = [self.texts[(k * n + i) % len(self.texts)] for i in range(n)]
                seconds[name].append(self.timed(run, texts))
                rate = (rate + self.rate()) / 2
                shares[name].append(2 * self.parameters * own / rate / seconds[name][-1])
            for name, values in ratios.items():
                values.append(seconds[name][-1] / seconds["score"][-1])
        return {
            "pipeline_batch_size": batch_size,
            "prompt_tokens": whole,
            "own_tokens": own,
            "seconds": {name: median(values) for name, values in seconds.items()},
            "share_of_floor": {name: median(values) for name, values in shares.items()},
            "speedup": {name: median(values) for name, values in ratios.items()},
            "rounds": seconds,
        }

    @torch.inference_mode()
    def max_difference(self, shots: str, count: int) -> float:
        """Largest difference between a score and the same words scored alone, one text and one word at a time."""
        task, texts = self.tasks[shots], self.texts[:count]
        encoder = PromptEncoder(self.tokenizer, task)
        replies = {i: reply for part in self.teacher.ask(task, texts) for i, reply in part.items()}
        worst = 0.0
        for i, text in enumerate(texts):
            prompt = encoder.encode(text)
            for label, words in enumerate(encoder.words):
                total = []
                for word in words:
                    ids = torch.tensor([[*prompt, *word]], device=self.device)
                    log_p = self.model(ids).logits[0].float().log_softmax(-1)
                    total.append(sum(log_p[len(prompt) - 1 + k, token] for k, token in enumerate(word)))
                alone = float(torch.stack(total).logsumexp(0))
                worst = max(worst, abs(alone - replies[i].scores[label]))
        return worst


def several(bench: Bench, count: int, rounds: int) -> dict[str, object]:
    """Several questions about each text against one, asked in turns, and by how much a score differs from that alone."""
    task = TaskSpec("several", instruction="Review: {text}", questions=QUESTIONS[:count])
    branches = [branch for found in task.branches.values() for branch in found]
    if len(branches) != count:
        raise ValueError(f"There are {len(QUESTIONS)} questions to ask, got --questions {count}.")
    teacher = bench.teacher
    encoders = [PromptEncoder(bench.tokenizer, branch) for branch in branches]
    prompts = [encoder.encode(bench.texts[0]) for encoder in encoders]
    n = bench.rows["score"] // 3

    def timed(run: Callable[[list[str]], None], texts: list[str]) -> tuple[float, float]:
        """Seconds, and seconds of the processor, a text."""
        start = time.process_time()
        return bench.timed(run, texts), (time.process_time() - start) / len(texts)

    ask: dict[str, Callable[[list[str]], object]] = {
        "one": lambda texts: list(teacher.ask(branches[0], texts)),
        "all": lambda texts: list(teacher.ask_branches(branches, texts)),
    }
    for run in ask.values():
        run(bench.texts[:4])
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ask}
    for k in range(rounds):
        texts = bench.texts[k * n % len(bench.texts) :][:n]
        for name in ("one", "all") if k % 2 else ("all", "one"):
            found[name].append(timed(ask[name], texts))
    replies = {i: of_text for part in teacher.ask_branches(branches, bench.texts[:n]) for i, of_text in part.items()}
    apart: list[dict] = [{} for _ in branches]

    def ask_apart(texts: list[str]) -> None:
        for k, branch in enumerate(branches):
            for part in teacher.ask(branch, texts):
                apart[k].update(part)

    apart_seconds = timed(ask_apart, bench.texts[:n])
    worst = max(
        abs(together - alone)
        for k, of_branch in enumerate(apart)
        for i, reply in of_branch.items()
        for together, alone in zip(replies[i][k].scores, reply.scores, strict=True)
    )
    middle = {name: tuple(median(column) for column in zip(*values, strict=True)) for name, values in found.items()}
    ratios = [
        [b / a for a, b in zip(one, every, strict=True)] for one, every in zip(found["one"], found["all"], strict=True)
    ]
    return {
        "questions": count,
        "texts": n * rounds,
        "text_tokens": median(len(bench.tokenizer(text).input_ids) for text in bench.texts),
        "question_tokens": [len(prompt) - common(prompts) for prompt in prompts],
        "seconds_and_processor_seconds_a_text": {**middle, "apart": apart_seconds},
        "all_times_one": median(wall for wall, _ in ratios),
        "all_times_one_of_the_processor": median(cpu for _, cpu in ratios),
        "max_logprob_difference": worst,
        "rounds": found,
    }


def peak_memory_mb(arguments: argparse.Namespace) -> float:
    """Of a process of its own that only scores."""
    command = [sys.executable, __file__, "--memory", "--model", arguments.model, "--dtype", arguments.dtype]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(out.stdout.split()[-1])


def table(results: dict) -> str:
    """The measurements as Markdown."""
    lines = [
        "| prompt | system | texts/s | tokens/s | share of the floor | times the paper's |",
        "|---|---|---|---|---|---|",
    ]
    for shots, found in results.items():
        for name, seconds in found["seconds"].items():
            title = f"pipeline, batches of {found['pipeline_batch_size']}" if name == "pipeline" else name
            lines.append(
                f"| {shots} | {title} | {1 / seconds:.2f} | {found['prompt_tokens'] / seconds:,.0f} | "
                f"{found['share_of_floor'][name]:.0%} | {found['seconds']['paper'] / seconds:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=TEACHER)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batch_tokens", type=int)
    parser.add_argument("--rows", type=int, default=1, help="times as many texts in a round (a GPU wants more)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument(
        "--questions", type=int, help="measure so many questions about a text against one, nothing else"
    )
    parser.add_argument(
        "--rivals", type=Path, help="measure other engines into this file, where it lacks them, nothing else"
    )
    parser.add_argument("--num_texts", type=int, default=120, help="texts that each of the rivals is asked about")
    parser.add_argument("--parts", type=lambda names: names.split(","), help="which of the rivals, in their order")
    parser.add_argument("--llama_server", help="a llama-server to measure in place of the wheel's")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    rows = {name: n * arguments.rows for name, n in ROWS.items()}
    if arguments.rivals:
        arguments.threads = torch.get_num_threads()
        bench = Bench(TEACHER, {"score": arguments.num_texts + rivals.WARM}, None, "float32")
        sys.stdout.write(rivals.table(rivals.measure(bench, arguments)) + "\n")
        return
    bench = Bench(arguments.model, rows, arguments.batch_tokens, arguments.dtype)
    if arguments.memory:
        for _ in bench.teacher.ask(bench.tasks["2shot"], bench.texts):
            pass
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(f"{torch.cuda.max_memory_allocated() / 2**20 if bench.device.type == 'cuda' else peak}\n")
        return
    rounds = 3 if arguments.quick else arguments.rounds
    if arguments.questions:
        found = several(bench, arguments.questions, rounds)
        sys.stdout.write("\n".join(f"{name}: {value}" for name, value in found.items()) + "\n")
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
        return
    results = {shots: bench.measure(shots, rounds) for shots in bench.tasks}
    figures: dict[str, object] = {}
    for shots, found in results.items():
        figures[f"score_{shots}_speedup_vs_paper"] = found["speedup"]["paper"]
        figures[f"score_{shots}_speedup_vs_pipeline"] = found["speedup"]["pipeline"]
        figures[f"share_of_floor_{shots}"] = found["share_of_floor"]["score"]
    figures["max_logprob_difference"] = max(bench.max_difference(shots, 12) for shots in bench.tasks)
    figures["peak_memory_mb"] = peak_memory_mb(arguments)
    device = (
        torch.cuda.get_device_name() if bench.device.type == "cuda" else platform.processor() or platform.machine()
    )
    figures |= {
        "results": results,
        "device": device,
        "threads": torch.get_num_threads(),
        "dtype": choose_dtype(choose_device()) if arguments.dtype == "auto" else arguments.dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    sys.stdout.write(table(results) + "\n\n")
    sys.stdout.write("\n".join(f"{k}: {v}" for k, v in figures.items() if k != "results") + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
