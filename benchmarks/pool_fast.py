"""
Labeling a pool with linear and static students: texts/s, memory and share of the floor, beside what people use for it today.

    OMP_NUM_THREADS=2 python benchmarks/pool_fast.py --keep DIR --quick --json fast.json    # a few minutes, to see it work
    OMP_NUM_THREADS=2 python benchmarks/pool_fast.py --keep DIR --json fast.json            # half an hour on two free cores

Needs `make assets` and model2vec, for the encoder openvino; fastText is measured where `--fasttext DIR` has it (`pip install
--target DIR fasttext-wheel`). The pool is IMDb's train reviews, again and again. The fast students learnt from these very
reviews, so that their vocabulary is as large as it gets: the time counts here, not the labels. Every system runs in a process
of its own, round by round; loading is not timed. `label_pool` goes from Parquet to Parquet; the others have the texts in memory
and write nothing.

Floors: the tokenizer alone over the same texts in memory, as the student reads them and on as many threads; and the columns of
the labelled pool read and written into as many shards, with their sync and checksum. Share of floor: how much of the time of
label_pool these two take together when each runs alone. Every finished process is kept in DIR: the same command goes on where
it stopped. After a change of the code remove DIR/found-*.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Dataset, disable_progress_bars
from pool import ENCODER, REVIEWS, finish, make_student, peak_mb, start

from hf_llambert import StudentLabeler, label_pool, load_task
from hf_llambert.pool.manifest import ShardFile, shard_files
from hf_llambert.training.fast import in_threads
from hf_llambert.training.grams import split_units
from hf_llambert.training.linear import LinearModel
from hf_llambert.training.static import StaticModel
from hf_llambert.training.train_fast import FAST_KINDS, fast_arguments, train_fast
from hf_llambert.training.vectors import TokenVectors

WINDOW = 4096
TEN_MILLION = 10_000_000
ENCODED = "encoder, openvino float32"
ALONE, BOTH = "one process on one core", "two processes on one core each"


def texts_of(job: dict) -> pa.ChunkedArray:
    return pq.read_table(job["pool"], columns=["text"])["text"].slice(0, job.get("rows"))


def in_windows(texts: pa.ChunkedArray) -> list[pa.Array]:
    strings = texts.cast(pa.large_string())
    return [strings.slice(at, WINDOW).combine_chunks() for at in range(0, len(strings), WINDOW)]


def timed(run: Callable[[], object]) -> dict:
    begin, used = time.perf_counter(), time.process_time()
    run()
    return {"seconds": time.perf_counter() - begin, "core_seconds": time.process_time() - used}


def run_label_pool(job: dict) -> dict:
    """The whole call on a pool in Parquet; only what is kept from an earlier call, the loaded model, is not timed."""
    backend = {"backend": "openvino", "dtype": "float32"} if job["kind"] == "encoder" else {}
    labeler = StudentLabeler(job["student"], **backend)
    labeler.warm_up()
    shards = job["rows_per_shard"]
    return timed(lambda: label_pool(job["pool"], labeler, job["output"], shards, False, process=job.get("process")))


def run_tokenizer(job: dict) -> dict:
    """A linear student's words and their numbers; a static student's tokens, each word of a batch read once."""
    if job["kind"] == "linear":
        units, unit = (grams := LinearModel.load(Path(job["student"])).grams).units, grams.unit
        parts = in_windows(texts_of(job))

        def numbers(texts: pa.Array) -> np.ndarray:
            found = split_units(texts, unit)[0]
            if isinstance(found, pa.DictionaryArray):
                pc.index_in(found.dictionary, units)
            return np.zeros((len(texts), 1), np.float32)

        numbers(parts[0][:8])
        return timed(lambda: [in_threads(numbers, part) for part in parts])
    tokens = StaticModel.load(Path(job["student"])).tokens
    parts = in_windows(texts_of(job))

    def read(texts: pa.Array) -> np.ndarray:
        if tokens.by_words:
            tokens.of_words(pc.split_pattern(texts, " ").flatten().dictionary_encode().dictionary)
        else:
            tokens.of(texts.to_pylist())
        return np.zeros((len(texts), 1), np.float32)

    read(parts[0][:8])
    return timed(lambda: [in_threads(read, part) for part in parts])


def run_encode_batch_fast(job: dict) -> dict:
    """The static student's tokenizer as the tokenizers library reads whole texts, nothing else."""
    tokenizer, texts = StaticModel.load(Path(job["student"])).tokens.tokenizer, texts_of(job).to_pylist()
    parts = [texts[at : at + 512] for at in range(0, len(texts), 512)]
    tokenizer.encode_batch_fast(texts[:8], add_special_tokens=False)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:

        def tokens(part: list[str]) -> int:
            return len(tokenizer.encode_batch_fast(part, add_special_tokens=False))

        return timed(lambda: list(pool.map(tokens, parts)))


def run_reading_and_writing(job: dict) -> dict:
    """The labelled pool's columns, read in a thread, written in another, into shards of as many rows."""
    output = Path(job["output"])
    output.mkdir(parents=True)
    paths = shard_files(job["labelled"])

    def copy() -> None:
        with ThreadPoolExecutor(1) as pool:
            for path in paths:
                with pq.ParquetFile(path) as source:
                    file = ShardFile(output / path.name, source.schema_arrow)
                    batches = source.iter_batches(WINDOW)
                    coming = pool.submit(next, batches, None)
                    while (batch := coming.result()) is not None:
                        coming = pool.submit(next, batches, None)
                        file.write(pa.Table.from_batches([batch]))
                    file.finish()
                    file.publish()

    return timed(copy)


def run_model2vec(job: dict) -> dict:
    from model2vec import StaticModel

    model, texts = StaticModel.from_pretrained(job["student"]), texts_of(job).to_pylist()
    model.encode(texts[:8])
    return timed(lambda: model.encode(texts))


def run_model2vec_pipeline(job: dict) -> dict:
    """model2vec's classifier as it is documented: the vectors of MiniLM's tokens and a linear head on top."""
    from model2vec import StaticModel
    from model2vec.inference import StaticModelPipeline
    from model2vec.inference.model import Activation, Layer, MLPHead
    from sklearn.linear_model import LogisticRegression

    model, texts = StaticModel.from_pretrained(job["vectors"]), texts_of(job).to_pylist()
    gold = pq.read_table(job["pool"], columns=["label"])["label"].to_pylist()
    head = LogisticRegression(max_iter=1000).fit(model.encode(texts[:2000]), gold[:2000])
    weights = np.concatenate([np.zeros_like(head.coef_), head.coef_]).astype(np.float32)
    layer = Layer(weights, np.array([0, head.intercept_[0]], np.float32))
    pipeline = StaticModelPipeline(model, MLPHead([layer], Activation.SOFTMAX, np.array(["negative", "positive"])))
    pipeline.predict(texts[:8])
    return timed(lambda: pipeline.predict(texts))


def run_scikit_learn(job: dict) -> dict:
    """As many features as a linear student has at most."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = pq.read_table(job["pool"], columns=["text", "label"])
    texts, gold = rows["text"].to_pylist(), rows["label"].to_pylist()
    tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=200_000, dtype=np.float32)
    model = make_pipeline(tfidf, LogisticRegression(max_iter=100)).fit(texts[: job["learn"]], gold[: job["learn"]])
    return timed(lambda: model.predict(texts))


def run_fasttext(job: dict) -> dict:
    """Words and pairs of words; 100 dimensions, which are fastText's own defaults."""
    sys.path.insert(0, job["fasttext"])
    import fasttext

    rows = pq.read_table(job["pool"], columns=["text", "label"])
    texts, gold = [" ".join(text.split()) for text in rows["text"].to_pylist()], rows["label"].to_pylist()
    learnt = Path(job["output"]).with_suffix(".txt")
    lines = [f"__label__{label} {text}\n" for label, text in zip(gold, texts, strict=True)]
    learnt.write_text("".join(lines[: job["learn"]]), encoding="utf-8")
    threads = int(os.environ["OMP_NUM_THREADS"])
    model = fasttext.train_supervised(str(learnt), wordNgrams=2, epoch=5, thread=threads, verbose=0)
    learnt.unlink()
    model.predict(texts[:8])
    return timed(lambda: model.predict(texts))


PEERS = {
    "tokenizers encode_batch_fast alone": (run_encode_batch_fast, "tokenizers"),
    "model2vec encode": (run_model2vec, "model2vec"),
    "model2vec pipeline": (run_model2vec_pipeline, "model2vec"),
    "scikit-learn TF-IDF and logistic regression": (run_scikit_learn, "sklearn"),
    "fastText predict": (run_fasttext, None),
}
RUNS = {
    "label_pool": run_label_pool,
    "tokenizer": run_tokenizer,
    "reading and writing": run_reading_and_writing,
    **{name: run for name, (run, _) in PEERS.items()},
}


def one(path: str) -> None:
    """Run one system in this process."""
    disable_progress_bars()
    job = json.loads(Path(path).read_text())
    if "cores" in job:
        os.sched_setaffinity(0, job["cores"])
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found = RUNS[job["system"]](job)
    Path(path).with_suffix(".out").write_text(json.dumps({**found, "peak_mb": peak_mb()}))


class Kept:
    """Processes run one after the other; what one found is kept and not run again."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder, self.work = folder, work
        for one_ in (folder, work):
            one_.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.json").is_file()

    def __call__(self, name: str, *jobs: dict, rows: int = 0) -> list[dict]:
        """What jobs that run at the same time found."""
        path = self.folder / f"{name}.json"
        if self.has(name):
            return json.loads(path.read_text())
        for job in jobs:
            if "output" in job and job.get("process", (0, 1))[0] == 0:
                shutil.rmtree(job["output"], ignore_errors=True)
        found = [finish(process) for process in [start(self.work, job, __file__) for job in jobs]]
        part = path.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.replace(path)
        slowest = max(one_["seconds"] for one_ in found)
        print(f"{name}: {slowest:.2f} s" + (f", {rows / slowest:,.0f} texts/s" if rows else ""), flush=True)
        return found


def reviews(rows: int) -> Dataset:
    """So many reviews in a drawn order; where there are fewer, from the first on again."""
    data = Dataset.from_parquet(str(REVIEWS)).shuffle(seed=42)
    return data.select([row % len(data) for row in range(rows)])


def make_students(keep: Path, learn: int, kinds: list[str], quick: bool) -> dict[str, str]:
    """The folders of the students, made once."""
    folders = {kind: keep / f"students-{learn}" / kind for kind in kinds}
    if "encoder" in folders:
        folders["encoder"] = keep / f"encoder-{240 if quick else 800}" / "student"
        if not (folders["encoder"] / "stage.json").is_file():
            make_student(folders["encoder"], 240 if quick else 800)
    task = load_task("imdb")
    gold = reviews(learn).cast_column("label", ClassLabel(names=list(task.labels)))
    for kind in (kind for kind in FAST_KINDS if kind in folders):
        args = fast_arguments(kind, str(keep / "checkpoints"), num_train_epochs=1)
        vectors = TokenVectors.load(ENCODER, keep=keep) if kind == "static" else None
        train_fast(task, kind, folders[kind], args, gold=gold, vectors=vectors)
    return {kind: str(folder) for kind, folder in folders.items()}


def compare(kept: Kept, students: dict[str, str], arguments: argparse.Namespace) -> dict[str, dict]:
    """Medians of the rates over the rounds, of each system on the same reviews."""
    rows, learn = arguments.rows, arguments.learn
    pools = {"all": kept.work / "pool.parquet", "fewer": kept.work / "pool-encoder.parquet"}
    reviews(rows).to_parquet(str(pools["all"]))
    reviews(arguments.encoder_rows).to_parquet(str(pools["fewer"]))
    peers = [name for name, (_, need) in PEERS.items() if need and importlib.util.find_spec(need)]
    peers = [name for name in peers if "static" in students or PEERS[name][1] == "sklearn"]
    peers += ["fastText predict"] if arguments.fasttext else []
    found: dict[str, list[dict]] = {}
    for k in range(arguments.rounds):
        for kind, student in students.items():
            size = arguments.encoder_rows if kind == "encoder" else rows
            name = ENCODED if kind == "encoder" else kind
            job = {"kind": kind, "student": student, "pool": str(pools["fewer" if kind == "encoder" else "all"])}
            job |= {"rows_per_shard": 10_000, "output": str(kept.work / f"labels-{kind}-{k}")}
            (done,) = kept(f"{name}, round {k}", {**job, "system": "label_pool"}, rows=size)
            done["rows"] = size
            if kind != "encoder":
                floors = {
                    "tokenizer": {"system": "tokenizer", "kind": kind, "student": student, "pool": job["pool"]},
                    "reading and writing": {
                        "system": "reading and writing",
                        "labelled": job["output"],
                        "output": f"{job['output']}-copy",
                    },
                }
                if not kept.has(f"{name}, reading and writing, round {k}") and not Path(job["output"]).is_dir():
                    kept(f"{name}, labelled again for round {k}", {**job, "system": "label_pool"})
                for floor, each in floors.items():
                    done[floor] = kept(f"{name}, {floor}, round {k}", each, rows=size)[0]["seconds"]
            found.setdefault(name, []).append(done)
            for folder in (job["output"], f"{job['output']}-copy"):
                shutil.rmtree(folder, ignore_errors=True)
        for name in peers:
            job = {"system": name, "pool": str(pools["all"]), "learn": learn, "student": students.get("static")}
            job |= {"vectors": str(next(arguments.keep.glob("vectors-*"), "")), "fasttext": arguments.fasttext}
            (done,) = kept(f"{name}, round {k}", {**job, "output": str(kept.work / "fasttext")}, rows=rows)
            found.setdefault(name, []).append({**done, "rows": rows})
    return {name: line(runs, found.get(ENCODED)) for name, runs in found.items()}


def line(runs: list[dict], encoder: list[dict] | None) -> dict:
    """One system's figures."""
    rates = [run["rows"] / run["seconds"] for run in runs]
    out: dict = {"texts_per_second": statistics.median(rates), "rounds": rates, "rows": runs[0]["rows"]}
    if encoder:
        slow = [run["rows"] / run["seconds"] for run in encoder]
        out["times_encoder"] = statistics.median(a / b for a, b in zip(rates, slow, strict=True))
    if "tokenizer" in runs[0]:
        floors = ("tokenizer", "reading and writing")
        shares = [sum(run[floor] for floor in floors) / run["seconds"] for run in runs]
        out["share_of_floor"] = statistics.median(shares)
        out |= {f"{floor} alone, s": statistics.median(run[floor] for run in runs) for floor in floors}
    if "core_seconds" in runs[0]:
        out["cores"] = statistics.median(run["core_seconds"] / run["seconds"] for run in runs)
    out["peak_mb"] = max(run["peak_mb"] for run in runs)
    out["hours_for_ten_million_extrapolated"] = TEN_MILLION / out["texts_per_second"] / 3600
    return out


def processes(kept: Kept, students: dict[str, str], arguments: argparse.Namespace) -> dict:
    """One process on one core against two on one core each, at the same time; the slower of the two counts."""
    once, pool, out = kept.work / "shared.parquet", kept.work / "shared", {}
    reviews(arguments.rows).to_parquet(str(once))
    shutil.rmtree(pool, ignore_errors=True)
    pool.mkdir()
    for part in range(4):  # both processes have as many rows
        os.link(once, pool / f"{part}.parquet")
    for kind in (kind for kind in FAST_KINDS if kind in students):
        ratios = []
        for k in range(arguments.rounds):
            job = {"system": "label_pool", "kind": kind, "student": students[kind], "pool": str(pool)}
            job |= {"rows_per_shard": 10_000}
            output = kept.work / f"processes-{kind}-{k}"
            alone = kept(f"{kind}, {ALONE}, round {k}", {**job, "output": f"{output}-1", "cores": [0]})
            shares = [{**job, "output": f"{output}-2", "cores": [core], "process": (core, 2)} for core in (0, 1)]
            both = kept(f"{kind}, {BOTH}, round {k}", *shares)
            ratios.append(alone[0]["seconds"] / max(run["seconds"] for run in both))
            for number in (1, 2):
                shutil.rmtree(f"{output}-{number}", ignore_errors=True)
        out[kind] = {"two_process_speedup": statistics.median(ratios), "rounds": ratios}
    return out


def growth(kept: Kept, students: dict[str, str], arguments: argparse.Namespace) -> dict:
    """Time and memory from 10,000 rows to a million: the same reviews again and again."""
    sizes = sorted({min(10_000, arguments.grown), arguments.grown})
    once, folder, out = kept.work / "once.parquet", kept.work / "grown", {}
    reviews(sizes[0]).to_parquet(str(once))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for part in range(-(-sizes[-1] // sizes[0])):
        os.link(once, folder / f"{part:05d}.parquet")
    for kind in (kind for kind in FAST_KINDS if kind in students):
        runs = {}
        for size in sizes:
            job = {"system": "label_pool", "kind": kind, "student": students[kind], "rows_per_shard": 10_000}
            job |= {"pool": str(once if size == sizes[0] else folder), "output": str(kept.work / f"grown-{kind}")}
            (runs[size],) = kept(f"{kind}, {size} rows", job, rows=size)
            shutil.rmtree(job["output"], ignore_errors=True)
        small, large = runs[sizes[0]], runs[sizes[-1]]
        out[kind] = {
            "memory_growth_mb": large["peak_mb"] - small["peak_mb"],
            "rates": {size: size / run["seconds"] for size, run in runs.items()},
            "peak_mb": {size: run["peak_mb"] for size, run in runs.items()},
        }
    return out


def table_lines(table: dict[str, dict]) -> list[str]:
    heads = ("system", "texts/s", "times the encoder", "share of floor", "cores", "peak MB", "hours for 10 million *")
    out = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in table.items():
        share = f"{row['share_of_floor']:.0%}" if "share_of_floor" in row else ""
        times = f"{row['times_encoder']:,.1f}" if "times_encoder" in row else ""
        hours = f"{row['hours_for_ten_million_extrapolated']:,.2f}"
        cells = (
            name,
            f"{row['texts_per_second']:,.0f}",
            times,
            share,
            f"{row['cores']:.2f}",
            f"{row['peak_mb']:,.0f}",
            hours,
        )
        out.append(f"| {' | '.join(cells)} |")
    return [*out, "", "* extrapolated from the rate here"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="folder of the students, the vectors and what is found")
    parser.add_argument("--quick", action="store_true", help="fewer rows, one round: to see it work")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--encoder_rows", type=int, default=1000)
    parser.add_argument("--learn", type=int, default=24_000, help="reviews that the fast students learn from")
    parser.add_argument("--grown", type=int, default=1_000_000, help="rows of the large pool")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["encoder", *FAST_KINDS], help="some of encoder, linear, static")
    parser.add_argument("--parts", nargs="+", default=["systems", "processes", "growth"], help="run only these")
    parser.add_argument("--fasttext", help="folder with fasttext, by pip install --target")
    parser.add_argument("--json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one)
        return
    if arguments.keep is None:
        parser.error("pass --keep, a folder")
    if arguments.quick:
        arguments.rows, arguments.encoder_rows, arguments.learn = 4000, 64, 2000
        arguments.grown, arguments.rounds = 20_000, 1
    arguments.kinds = [k for k in arguments.kinds if k != "encoder" or importlib.util.find_spec("openvino")]
    threads = os.environ.setdefault("OMP_NUM_THREADS", "2")
    torch.set_num_threads(int(threads))
    students = make_students(arguments.keep, arguments.learn, arguments.kinds, arguments.quick)
    sizes = f"{arguments.rows}-{arguments.encoder_rows}-{arguments.learn}-{arguments.grown}-{threads}"
    kept = Kept(arguments.keep / f"found-{sizes}", arguments.keep / "work")
    figures: dict = {"rows": arguments.rows, "rounds": arguments.rounds, "threads": int(threads)}
    for part, run in {"systems": compare, "processes": processes, "growth": growth}.items():
        if part in arguments.parts:
            figures[part] = run(kept, students, arguments)
    shutil.rmtree(kept.work, ignore_errors=True)
    print("\n".join(table_lines(figures.get("systems", {}))))
    print(json.dumps({part: figures[part] for part in ("processes", "growth") if part in figures}, indent=2))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
