"""`hf-llambert label`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_llambert.cli.options import Data, NumRows, Output, Seed, Split, TextColumn, say


def label(
    data: Data,
    student: Annotated[str, typer.Option("--student", help="Directory or Hub id of a trained student.")],
    output: Output,
    split: Split = None,
    text_column: TextColumn = "text",
    num_rows: NumRows = None,
    seed: Seed = 42,
    batch_tokens: Annotated[int, typer.Option("--batch_tokens", help="Padded tokens in one forward pass.")] = 4096,
    rows_per_shard: Annotated[int, typer.Option("--rows_per_shard", help="Rows in each Parquet file.")] = 10_000,
) -> None:
    """Label a whole corpus with a student, as Parquet beside the input's columns."""
    from hf_llambert import StudentLabeler, label_pool, load_data

    if (Path(student) / "student").is_dir():  # the folder of a run
        student = str(Path(student) / "student")
    labeler = StudentLabeler(student, text_column, batch_tokens=batch_tokens)
    results = label_pool(load_data(data, split, num_rows, seed), labeler, output / "labels", rows_per_shard)
    say(
        f"{results['n_labelled']:,} texts labelled, {results['n_unusable']:,} unusable, "
        f"{results['texts_per_second']:,.1f} texts/s"
    )
    say(f"written to {output / 'labels'}")
