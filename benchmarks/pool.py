"""
Labeling a pool: texts/s, memory and share of the floor, beside what people use for it today.

    OMP_NUM_THREADS=2 python benchmarks/pool.py --quick --json pool.json
    OMP_NUM_THREADS=2 python benchmarks/pool.py --rows 2000 --rounds 3 --json pool.json

Needs `make assets`, and for all rows of the table `pip install openvino onnxruntime onnx onnxscript sentence-transformers`.
A MiniLM student reads IMDb reviews at up to 256 tokens. Every system runs in a process of its own, one after the other, round by
round; loading is not timed. The floor is the arithmetic of the texts' own tokens at the speed of a large matrix product, measured
beside. Growth: a student of one small layer, so that reading, tokenising and writing show, over the same reviews again and again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import ClassLabel, Dataset, disable_progress_bars

from hf_llambert import (
    StudentConfig,
    StudentLabeler,
    TransformersTeacher,
    label_pool,
    load_task,
    read_pool,
    train_student,
)
from hf_llambert.models import cpu_computes
from hf_llambert.training.inputs import TRAINING_FILE, Reading, save_reading
from hf_llambert.training.loading import SAFE

ROOT = Path(__file__).parent.parent
ENCODER, TEACHER, REVIEWS = (
    ROOT / "assets" / n for n in ("all-MiniLM-L6-v2", "SmolLM2-135M-Instruct", "imdb_train.parquet")
)
LENGTH = 256
OURS = {
    "hf_llambert, torch float32": ("torch", "float32"),
    "hf_llambert, openvino float32": ("openvino", "float32"),
    "hf_llambert, openvino bfloat16": ("openvino", "bfloat16"),
    "hf_llambert, onnx float32": ("onnx", "float32"),
    "hf_llambert, onnx int8": ("onnx", "int8"),
}
NEEDS = {"openvino": "openvino", "onnx": "onnxscript", "sentence-transformers encode": "sentence_transformers"}
REVIEWS_OF_THE_PAPER = 7_800_000


def reviews(rows: int, seed: int = 42) -> list[str]:
    data = Dataset.from_parquet(str(REVIEWS)).shuffle(seed=seed)
    return data.select(range(1000, 1000 + rows))["text"][:]  # the first ones train the student


def make_student(folder: Path, rows: int) -> None:
    """MiniLM, trained on people's labels (of the first 128 tokens, for time): labels that mean something have real margins."""
    data = Dataset.from_parquet(str(REVIEWS)).shuffle(seed=42).select(range(rows))
    gold = data.cast_column("label", ClassLabel(names=list(load_task("imdb").labels)))
    args = StudentConfig(
        output_dir=str(folder.parent / "checkpoints"),
        num_train_epochs=3,
        learning_rate=1e-4,
        per_device_train_batch_size=16,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    train_student(load_task("imdb"), str(ENCODER), folder, args, gold=gold, max_length=128, head_share=1.0)
    save_reading(folder, Reading(LENGTH), json.loads((folder / TRAINING_FILE).read_text())["training"])


def make_tiny(folder: Path) -> None:
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(ENCODER, trust_remote_code=False)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        id2label={0: "negative", 1: "positive"},
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_reading(folder, Reading(LENGTH), {})


def floor_seconds(folder: Path, texts: list[str]) -> float:
    """Seconds that the arithmetic of these texts' tokens takes at this machine's speed of a matrix product."""
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    rows = tokenizer(texts, truncation=True, max_length=LENGTH).input_ids
    wide, inner = config.hidden_size, config.intermediate_size
    each = [2 * len(row) * (4 * wide * wide + 2 * wide * inner) + 4 * len(row) ** 2 * wide for row in rows]
    return config.num_hidden_layers * sum(each) / matmul_speed()


def matmul_speed(size: int = 2048, times: int = 8) -> float:
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds)


def peak_mb() -> float:
    """The most memory that this process had; getrusage would count what its parent had too."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def run_ours(name: str, job: dict) -> dict:
    backend, dtype = OURS[name]
    labeler = StudentLabeler(job["student"], backend=backend, dtype=dtype, device="cpu")
    labeler.warm_up()
    label = label_pool
    try:
        found = label(job["pool"], labeler, job["output"], job["rows_per_shard"], False, process=job.get("process"))
    except ValueError as error:
        if "must" not in str(error):
            raise
        return {"refused": str(error)}
    done = {"seconds": found["seconds"], "agreement": found.get("agreement")}
    if found["complete"] and job["labels"]:
        done["labels"] = read_pool(job["output"])["student_label"][:]
    return done


def run_pipeline(job: dict) -> dict:
    from transformers import pipeline

    dtype, length = getattr(torch, job.get("dtype", "float32")), job.get("length", LENGTH)
    place = job.get("device", "cpu")
    pipe = pipeline("text-classification", model=job["student"], device=place, dtype=dtype, trust_remote_code=False)
    best: dict = {}
    for size in job["sizes"]:
        pipe(job["texts"][:2], batch_size=size, truncation=True, max_length=length)
        start = time.perf_counter()
        out = pipe(job["texts"], batch_size=size, truncation=True, max_length=length)
        seconds = time.perf_counter() - start
        if not best or seconds < best["seconds"]:
            ids = pipe.model.config.label2id
            best = {"seconds": seconds, "size": size, "labels": [ids[row["label"]] for row in out]}
    return best


def run_map(job: dict) -> dict:
    """As FineWeb-Edu's classifier was run: `datasets.map`, texts in their order, each batch padded to its longest."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["student"], trust_remote_code=False)
    dtype, length = getattr(torch, job.get("dtype", "float32")), job.get("length", LENGTH)
    model = AutoModelForSequenceClassification.from_pretrained(job["student"], dtype=dtype, **SAFE).eval()
    model.to(job.get("device", "cpu"))

    @torch.inference_mode()
    def score(batch: dict) -> dict:
        inputs = tokenizer(batch["text"], return_tensors="pt", padding="longest", truncation=True, max_length=length)
        return {"label": model(**inputs.to(model.device)).logits.argmax(-1).tolist()}

    data = Dataset.from_dict({"text": job["texts"]})
    score(data[:2])
    start = time.perf_counter()
    out = data.map(score, batched=True, batch_size=512)
    return {"seconds": time.perf_counter() - start, "labels": out["label"][:]}


def run_encode(job: dict) -> dict:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(ENCODER), device="cpu")
    model.max_seq_length = LENGTH
    model.encode(job["texts"][:2])
    start = time.perf_counter()
    model.encode(job["texts"], batch_size=32)
    return {"seconds": time.perf_counter() - start}


OTHERS = {
    'pipeline("text-classification")': run_pipeline,
    "datasets.map, padded batches of 512": run_map,
    "sentence-transformers encode": run_encode,
}


def run_teacher(job: dict) -> dict:
    teacher = TransformersTeacher(str(TEACHER), max_text_tokens=200, device="cpu")
    task = load_task(ROOT / "recipes/tasks/imdb_question.yaml")
    list(teacher.ask(task, job["texts"][:2]))
    start = time.perf_counter()
    list(teacher.ask(task, job["texts"]))
    return {"seconds": time.perf_counter() - start}


def one(path: str) -> None:
    """Run one system in this process."""
    disable_progress_bars()
    job = json.loads(Path(path).read_text())
    if "cores" in job:
        os.sched_setaffinity(0, job["cores"])
    torch.set_num_threads(len(job["cores"]) if "cores" in job else int(os.environ.get("OMP_NUM_THREADS", "2")))
    name = job["system"]
    run = {"teacher": run_teacher, **OTHERS}.get(name)
    found = run(job) if run else run_ours(name, job)
    found["floor_seconds"] = floor_seconds(Path(job["student"]), job["texts"]) if job.get("texts") else None
    Path(path).with_suffix(".out").write_text(json.dumps({**found, "peak_mb": peak_mb()}))


def start(folder: Path, job: dict, script: str = __file__) -> tuple[subprocess.Popen, Path]:
    path = folder / f"job-{time.monotonic_ns()}.json"
    path.write_text(json.dumps(job))
    threads = str(len(job["cores"])) if "cores" in job else os.environ.get("OMP_NUM_THREADS", "2")
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, script, "--one", str(path)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return process, path.with_suffix(".out")


def finish(started: tuple[subprocess.Popen, Path]) -> dict:
    process, out = started
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors[-2000:])
    return json.loads(out.read_text())


def available(name: str) -> bool:
    need = NEEDS.get(OURS[name][0] if name in OURS else name)
    if need and importlib.util.find_spec(need) is None:
        return False
    return name not in OURS or OURS[name][1] == "int8" or cpu_computes(OURS[name][1])


def compare(folder: Path, student: Path, rows: int, rounds: int, sizes: list[int]) -> tuple[dict, dict]:
    """Each system on the same reviews: medians over the rounds."""
    texts = reviews(rows)
    Dataset.from_dict({"text": texts}).to_parquet(str(folder / "pool.parquet"))
    names = [name for name in (*OTHERS, *OURS) if available(name)]
    found: dict[str, list[dict]] = {name: [] for name in names}
    for k in range(rounds):
        for name in names:
            job = {"system": name, "student": str(student), "texts": texts, "sizes": sizes, "labels": True}
            job |= {
                "pool": str(folder / "pool.parquet"),
                "output": str(folder / f"labels-{k}-{name}"),
                "rows_per_shard": 10_000,
            }
            found[name].append(finish(start(folder, job)))
            if name.startswith("pipeline"):
                sizes = [found[name][-1]["size"]]  # the best one, from now on
            print(f"round {k + 1}, {name}: {said(found[name][-1], rows)}", flush=True)
    exact = found["hf_llambert, torch float32"][0]["labels"]
    table = {}
    for name, runs in found.items():
        if "refused" in runs[0]:
            table[name] = {"refused": runs[0]["refused"]}
            continue
        seconds = statistics.median(run["seconds"] for run in runs)
        table[name] = {
            "texts_per_second": rows / seconds,
            "share_of_floor": statistics.median(run["floor_seconds"] / run["seconds"] for run in runs),
            "peak_mb": max(run["peak_mb"] for run in runs),
            "rounds": [rows / run["seconds"] for run in runs],
        }
        if "labels" in runs[0]:
            table[name]["agreement"] = sum(a == b for a, b in zip(runs[0]["labels"], exact, strict=True)) / rows
        if "size" in runs[0]:
            table[name]["batch_size"] = runs[0]["size"]
    pipes = found['pipeline("text-classification")']
    for name, runs in found.items():
        if "refused" not in table[name]:
            ratios = [pipe["seconds"] / run["seconds"] for pipe, run in zip(pipes, runs, strict=True)]
            table[name]["times_pipeline"] = statistics.median(ratios)
    plain = [name for name in table if name.endswith("float32") and name in OURS]
    sound = [n for n in OURS if "texts_per_second" in table.get(n, {}) and table[n]["agreement"] >= 0.995]
    best_plain = max(plain, key=lambda name: table[name]["texts_per_second"])
    best = max(sound, key=lambda name: table[name]["texts_per_second"])
    return table, {
        "fp32_best": best_plain,
        "fp32_speedup_vs_pipeline": table[best_plain]["times_pipeline"],
        "fp32_torch_speedup_vs_pipeline": table["hf_llambert, torch float32"]["times_pipeline"],
        "share_of_floor_fp32": table[best_plain]["share_of_floor"],
        "share_of_floor_fp32_torch": table["hf_llambert, torch float32"]["share_of_floor"],
        "best": best,
        "best_speedup_vs_pipeline": table[best]["times_pipeline"],
        "best_texts_per_second": table[best]["texts_per_second"],
        "label_agreement_best_vs_fp32": table[best]["agreement"],
    }


def said(run: dict, rows: int) -> str:
    return run.get("refused") or f"{rows / run['seconds']:.1f} texts/s, peak {run['peak_mb']:,.0f} MB"


def growth(folder: Path) -> dict:
    """Time and memory from 10,000 to 200,000 rows."""
    make_tiny(folder / "tiny")
    data = Dataset.from_parquet(str(REVIEWS)).select_columns("text")
    (folder / "large").mkdir()
    for k in range(8):
        data.to_parquet(str(folder / "large" / f"{k}.parquet"))
    data.select(range(10_000)).to_parquet(str(folder / "small.parquet"))
    out = {}
    for rows, pool in ((10_000, "small.parquet"), (200_000, "large")):
        job = {"system": "hf_llambert, torch float32", "student": str(folder / "tiny"), "pool": str(folder / pool)}
        job |= {"output": str(folder / f"grown-{rows}"), "rows_per_shard": 10_000, "labels": False}
        done = finish(start(folder, job))
        out[rows] = {"seconds": done["seconds"], "peak_mb": done["peak_mb"]}
        print(f"{rows:,} rows: {done['seconds']:.1f} s, peak {done['peak_mb']:,.0f} MB", flush=True)
    small, large = out[10_000], out[200_000]
    return {
        "memory_growth_mb": large["peak_mb"] - small["peak_mb"],
        "time_growth": large["seconds"] / small["seconds"],
        "growth": out,
    }


def two_processes(folder: Path, student: Path, rows: int, rounds: int) -> dict:
    """One process on one core, then two on one each, at the same time."""
    texts = reviews(rows)
    Dataset.from_dict({"text": texts}).to_parquet(str(folder / "shared.parquet"))
    speedups = []
    for k in range(rounds):
        job = {"system": "hf_llambert, torch float32", "student": str(student), "pool": str(folder / "shared.parquet")}
        job |= {"rows_per_shard": rows // 16, "labels": False}
        alone = finish(start(folder, {**job, "output": str(folder / f"alone-{k}"), "cores": [0]}))["seconds"]
        both = [
            start(folder, {**job, "output": str(folder / f"both-{k}"), "cores": [core], "process": (core, 2)})
            for core in (0, 1)
        ]
        ended = [finish(process) for process in both]
        shares = [
            sum(note["seconds"] for note in notes(folder / f"both-{k}") if note["chunk"] % 2 == core)
            for core in (0, 1)
        ]
        assert len(ended) == 2
        speedups.append(alone / max(shares))
        print(
            f"one process {alone:.1f} s; two {shares[0]:.1f} and {shares[1]:.1f} s: {speedups[-1]:.2f} times",
            flush=True,
        )
    return {"two_process_speedup": statistics.median(speedups)}


def notes(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in (folder / ".manifest").glob("part-*.json")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="240 reviews, one round; within ten minutes")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--student", help="a trained student; default: one is trained on 800 reviews, or 240")
    parser.add_argument("--parts", nargs="+", default=["systems", "processes", "growth"], help="run only these")
    parser.add_argument("--json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one)
        return
    rows, rounds = (240, 1) if arguments.quick else (arguments.rows, arguments.rounds)
    begin = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="pool-"))
    try:
        student = Path(arguments.student) if arguments.student else folder / "student"
        if not arguments.student:
            make_student(student, 240 if arguments.quick else 800)
            print(f"student trained in {time.perf_counter() - begin:.0f} s", flush=True)
        sizes = [8, 16] if arguments.quick else [1, 4, 8, 16, 32]
        table: dict = {}
        figures: dict = {}
        if "systems" in arguments.parts:
            sizes = [8, 16] if arguments.quick else [1, 4, 8, 16, 32]
            table, figures = compare(folder, student, rows, rounds, sizes)
            job = {"system": "teacher", "student": str(student), "texts": reviews(24)}
            teacher = 24 / finish(start(folder, job))["seconds"]
            figures["student_hours_for_7.8m"] = REVIEWS_OF_THE_PAPER / figures["best_texts_per_second"] / 3600
            figures["teacher_hours_for_7.8m"] = REVIEWS_OF_THE_PAPER / teacher / 3600
        if "processes" in arguments.parts:
            figures |= two_processes(folder, student, 320 if arguments.quick else 800, rounds)
        if "growth" in arguments.parts:
            figures |= growth(folder)
        figures |= {"rows": rows, "rounds": rounds, "seconds": time.perf_counter() - begin, "table": table}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, line in table.items():
        print(name, {k: round(v, 3) if isinstance(v, float) else v for k, v in line.items() if k != "rounds"})
    print(json.dumps({k: v for k, v in figures.items() if k != "table"}, indent=2))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
