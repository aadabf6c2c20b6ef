"""`hf-llambert distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_llambert.cli.nearest import refuse_unknown
from hf_llambert.cli.options import Config, Delimiter, Encoding, Seed, Split, say, values
from hf_llambert.cli.train import training_arguments


def distill(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Folder of a run whose student was measured.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="linear or static; auto: the fastest that is good enough.",
            autocompletion=values("linear", "static", "auto"),
        ),
    ] = "linear",
    num_rows: Annotated[int, typer.Option("--num_rows", help="Most texts of the pool to learn from.")] = 20_000,
    pool: Annotated[
        str | None, typer.Option("--pool", help="Texts without labels. Default: those of RUN/labels, which have them.")
    ] = None,
    within: Annotated[
        float, typer.Option("--within", help="How many points below the best a student may certainly be at most.")
    ] = 1.0,
    guarantee: Annotated[
        float | None,
        typer.Option(
            "--guarantee",
            help="Certify that so large a share of labels is right, such as 0.95: by the student alone, or with the encoder "
            "below the least threshold.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Whose labels --guarantee counts as right: encoder, on texts that are kept back (the default), or gold, on "
            "held-out texts.",
            autocompletion=values("encoder", "gold"),
        ),
    ] = None,
    split: Split = None,
    seed: Seed = 42,
    encoding: Encoding = "utf-8",
    delimiter: Delimiter = ",",
    config: Config = None,
) -> None:
    """
    Distil a run's student into one that labels hundreds of times as many texts a second.

    The student labels texts of the pool; a small one learns these labels, with silver and gold, and is measured on the run's
    held-out texts. It lies in RUN/students and labels like any other: hf-llambert label --student RUN/students/linear. Takes
    the arguments of StudentConfig that say what is learnt too (--target_temperature, --gold_weight, --scale_loss).
    """
    from hf_llambert import STATIC_DEFAULTS, StudentConfig, distill_student, distilled_summary, load_data

    refuse_unknown(context, lambda: [StudentConfig], "hf-llambert distill --help and StudentConfig")
    place = run / "students"
    args = {
        "linear": training_arguments(context.args, place, seed),
        "static": training_arguments(context.args, place, seed, **STATIC_DEFAULTS),
    }
    if not 0 <= within < 100:
        raise ValueError(f"--within takes points, from 0 to less than 100; got {within}.")
    if against is not None and guarantee is None:
        raise ValueError("--against says what --guarantee promises. Add --guarantee 0.95, or drop it.")
    texts = None
    if pool is not None:
        texts = load_data(pool, split, encoding=encoding, delimiter=delimiter, config=config)
    elif split is not None or config is not None:
        raise ValueError("--split and --config are of --pool, which is not given.")
    found = distill_student(
        run,
        to,  # type: ignore[arg-type]  # checked there
        num_rows=num_rows,
        pool=texts,
        within=within / 100,
        args=args,
        seed=seed,
        guarantee=guarantee,
        against=against or "encoder",  # type: ignore[arg-type]  # checked there
    )
    for line in distilled_summary(found):
        say(line)
    say(f"written to {run / 'students'}")
    promised = [one["guarantee"] for one in found["students"].values() if one.get("guarantee")]
    if guarantee is not None and not any(all("why" not in one for one in of.values()) for of in promised):
        say(f"No student keeps the promise of {guarantee:.1%}; the reasons stand above.", error=True)
        raise typer.Exit(1)
