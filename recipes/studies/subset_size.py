"""
How many annotated texts are enough: the learning curve of gold and of silver labels, and what its first half foretells.

    accelerate launch recipes/studies/subset_size.py --config recipes/studies/subset_size.yaml --recorded labels.csv
    accelerate launch recipes/studies/subset_size.py --config recipes/studies/subset_size.yaml --published true

The second asks and trains nothing: it fits the paper's own curve. Stopped and started again, the first goes on where it
stopped.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from accelerate import PartialState
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit
from study import (
    BLUE,
    ORANGE,
    RunArguments,
    annotated,
    learn,
    run_recipe,
    seeded,
    short_name,
    split_rows,
    write_study,
)

from hf_llambert import StudentConfig, load_task, paired_bootstrap, wait_for_everyone

PUBLISHED_SIZES = [200, 400, 800, 1600, 3200, 6400, 12800, 25000]
PUBLISHED = {
    "gold": [94.07, 94.38, 94.76, 95.21, 95.49, 95.86, 96.17, 96.58],
    "silver": [94.03, 94.08, 94.33, 94.44, 94.74, 94.80, 94.85, 94.77],
}
"""Accuracy of roberta-large on the 25,000 test reviews (arXiv 2403.15938)."""
EXPONENT, SPREAD = 0.3, 0.7
"""0.07 to 0.35 in deep networks (Hestness et al. 2017, arXiv 1712.00409), 0.5 in theory: 0.3, or twice or half of it."""
RESAMPLES = 300
FAR = 1e9


@dataclass(kw_only=True)
class SubsetArguments(RunArguments):
    """What this study takes beside the training arguments."""

    sizes: list[int] = field(
        default_factory=lambda: [50, 100, 200, 400, 800, 1600], metadata={"help": "Sizes of the nested subsets."}
    )
    least_steps: int = field(
        default=60, metadata={"help": "Small subsets are passed over more often, until a training has so many steps."}
    )
    worth: float = field(
        default=0.25, metadata={"help": "Points of accuracy that a doubling must bring to be worth it."}
    )
    published: bool = field(default=False, metadata={"help": "Fit the paper's curve; ask and train nothing."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sizes = sorted(set(self.sizes))
        if len(self.sizes) < 6 or self.sizes[0] < 2:
            raise ValueError(f"sizes must be six or more different numbers above 1, got {self.sizes}: half is fitted.")
        if self.worth <= 0:
            raise ValueError(f"worth must be above 0 points, got {self.worth}.")


@dataclass(frozen=True)
class Fit:
    """Error at `n` labels: `asymptote + scale * (n / smallest) ** -exponent`."""

    asymptote: float
    scale: float
    exponent: float
    smallest: float

    def accuracy(self, sizes: NDArray | float) -> NDArray:
        """Accuracy that the curve has at these sizes."""
        return 1 - self.asymptote - self.scale * (np.asarray(sizes) / self.smallest) ** -self.exponent

    def enough(self, worth: float) -> float:
        """The size from which a doubling brings less than `worth` (a share), not below the smallest measured."""
        gain = self.scale * (1 - 2**-self.exponent)
        if gain <= worth:
            return self.smallest
        return float(np.exp(min(np.log(self.smallest) + np.log(gain / worth) / self.exponent, np.log(FAR))))


def fit(sizes: NDArray, accuracy: NDArray, sigma: NDArray, *, prior: bool) -> Fit:
    """
    A power law by least squares, each point weighed by its standard error `sigma`.

    Args:
        prior (`bool`): Hold the exponent near what is known of other curves. Three parameters through few points would
            otherwise follow the noise, and the asymptote with it.
    """
    x = sizes / sizes[0]

    def curve(_: NDArray, a: float, b: float, c: float) -> NDArray:
        return np.append(a + b * x**-c, [np.log(c)] * prior)

    error = 1 - accuracy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # of the covariance, which is not used
        found, _ = curve_fit(
            curve, np.arange(len(x) + prior), np.append(error, [np.log(EXPONENT)] * prior),
            p0=(error.min() / 2, max(error[0] - error.min() / 2, 0.001), EXPONENT),
            sigma=np.append(np.maximum(sigma, 1e-4), [SPREAD] * prior), bounds=([0, 0, 0.01], [1, 1, 2]), max_nfev=5000,
        )  # fmt: skip
    return Fit(*map(float, found), float(sizes[0]))


def measured_curves(
    arguments: SubsetArguments, training: StudentConfig
) -> tuple[NDArray, dict[str, NDArray], list[str]]:
    """Sizes, whether each text was labelled right, by source: (sizes, seeds, texts), and how it was measured."""
    task = load_task(arguments.task)
    held_out, rest = split_rows(arguments, task)
    wanted = min(arguments.num_annotated or arguments.sizes[-1], len(rest))
    silver, selection, results = annotated(arguments, task, rest.select(range(wanted)))
    silver = silver.filter(lambda label: label >= 0, input_columns="gold_label", load_from_cache_file=False)
    sizes = sorted({min(size, len(silver)) for size in arguments.sizes})
    if len(sizes) < 6:
        raise ValueError(f"Of {wanted:,} texts {len(silver):,} have both labels, too few for sizes {arguments.sizes}.")
    gold = silver.remove_columns("label").rename_column("gold_label", "label")
    seeds = range(training.seed, training.seed + arguments.num_seeds)
    right: dict[str, list] = {"gold": [], "silver": []}
    for source, data in (("gold", gold), ("silver", silver)):
        for size in sizes:
            steps = -(-size // (training.per_device_train_batch_size * training.world_size))
            epochs = max(training.num_train_epochs, float(-(-arguments.least_steps // steps)))
            right[source].append([
                learn(
                    task, arguments.student[0], Path(arguments.run) / "students" / source / str(size) / str(seed),
                    seeded(training, seed, num_train_epochs=epochs), arguments, eval_data=held_out,
                    **{source: data.shuffle(seed=seed).select(range(size))},
                )
                for seed in seeds
            ])  # fmt: skip
    how = [
        f"Student {short_name(arguments.student[0])}, texts of up to {arguments.max_length} tokens, {len(held_out):,} held-out "
        f"texts, {len(seeds)} seeds; each seed draws its own nested subsets, the same for gold and silver.",
        f"Teacher {arguments.teacher}: {results['quality']['accuracy']:.1%} of {len(silver):,} labels agree with gold.",
        f"{training.num_train_epochs:g} epochs, at least {arguments.least_steps} steps.",
        "Intervals: 95 %, bootstrap over texts and seeds.",
    ]
    return np.array(sizes), {source: np.array(runs) for source, runs in right.items()}, how


def resampled(right: NDArray) -> NDArray:
    """Accuracy at each size in bootstrap samples of seeds and texts, the same for all sizes: (resamples, sizes)."""
    random, (_, seeds, texts) = np.random.default_rng(0), right.shape
    draws = []
    for _ in range(RESAMPLES):
        mean = right[:, random.integers(seeds, size=seeds)].mean(1)
        draws.append(mean[:, random.integers(texts, size=texts)].mean(1))
    return np.array(draws)


def interval(values: NDArray | list[float]) -> tuple[float, float]:
    """Where the middle 95 % of them lie."""
    low, high = np.quantile(values, (0.025, 0.975), method="nearest", axis=0)
    return low, high


def fits(sizes: NDArray, accuracy: NDArray, draws: NDArray, worth: float) -> dict:
    """Both forms on all points and on the smaller half, with what they say and its intervals."""
    sigma, half, out = draws.std(0), len(sizes) // 2, {}
    for form in ("free", "prior"):
        whole = [fit(sizes, y, sigma, prior=form == "prior") for y in (accuracy, *draws)]
        first = [fit(sizes[:half], y[:half], sigma[:half], prior=form == "prior") for y in (accuracy, *draws)]
        enough = [one.enough(worth) for one in whole]
        foretold = [float(one.accuracy(sizes[-1])) for one in first]
        out[form] = {
            "power_law": {
                name: {
                    "value": getattr(whole[0], name),
                    "interval": interval([getattr(one, name) for one in whole[1:]]),
                }
                for name in ("asymptote", "scale", "exponent")
            },
            "smallest": whole[0].smallest,
            "enough": enough[0],
            "enough_interval": interval(enough[1:]),
            "fitted": whole[0].accuracy(sizes).tolist(),
            "foretold_curve": first[0].accuracy(sizes).tolist(),
            "foretold": foretold[0],
            "foretold_interval": interval(foretold[1:]),
            "foretold_error": foretold[0] - float(accuracy[-1]),
            "foretold_error_interval": interval(np.array(foretold[1:]) - draws[:, -1]),
        }
    return out


def main(arguments: SubsetArguments, training: StudentConfig) -> dict:
    """Measure the curves or take the paper's, fit them, and write table, figure and page."""
    findings = []
    if arguments.published:
        sizes = np.array(PUBLISHED_SIZES)
        accuracy = {source: np.array(values) / 100 for source, values in PUBLISHED.items()}
        random = np.random.default_rng(0)
        draws = {source: random.binomial(25000, y, (RESAMPLES, len(y))) / 25000 for source, y in accuracy.items()}
        how = [
            "Published figures of one training each; intervals are for 25,000 other test texts, not for other seeds."
        ]
    else:
        sizes, right, how = measured_curves(arguments, training)
        accuracy = {source: one.mean((1, 2)) for source, one in right.items()}
        draws = {source: resampled(one) for source, one in right.items()}
        less, low, high = paired_bootstrap(right["silver"][-1], right["gold"][-1])
        findings.append(
            f"silver less gold at {sizes[-1]:,} labels: {100 * less:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})."
        )
    found = {source: fits(sizes, accuracy[source], draws[source], arguments.worth / 100) for source in accuracy}
    for source, forms in found.items():
        for form, one in forms.items():
            findings += _sentences(source, form, one, sizes, arguments.worth)
    rows = [
        {
            "labels": int(size), "source": source, "accuracy %": float(accuracy[source][k]),
            "low %": float(interval(draws[source])[0][k]), "high %": float(interval(draws[source])[1][k]),
            **{f"{form}, all %": one["fitted"][k] for form, one in found[source].items()},
            **{f"{form}, half %": one["foretold_curve"][k] for form, one in found[source].items()},
        }
        for source in accuracy for k, size in enumerate(sizes)
    ]  # fmt: skip
    if PartialState().is_main_process:
        run = Path(arguments.run)
        alt = "Accuracy against the number of labels for gold and silver, with fitted power laws and forecasts"
        question = "How many annotated texts are enough, and could one have known from the first half of the curve?"
        write_study(run, "Subset size", question, rows, {alt: draw(rows, found)}, findings, how)
        (run / "fits.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    wait_for_everyone()
    return {"rows": rows, "fits": found}


def _sentences(source: str, form: str, one: dict, sizes: NDArray, worth: float) -> list[str]:
    law = one["power_law"]
    shown = ", ".join(
        f"{name} {law[name]['value']:.3f} ({law[name]['interval'][0]:.3f} to {law[name]['interval'][1]:.3f})"
        for name in law
    )
    low, high, enough = (_number(n, one["smallest"]) for n in (*one["enough_interval"], one["enough"]))
    beyond = " That is beyond what was measured." if one["enough"] > sizes[-1] else ""
    within = "within" if abs(one["foretold_error"]) <= 0.01 else "not within"
    half, (least, most) = sizes[: len(sizes) // 2], one["foretold_error_interval"]
    return [
        f"{source}, {form} fit of error = asymptote + scale * (labels / {one['smallest']:g}) ** -exponent: {shown}.",
        f"{source}, {form} fit: a doubling is worth less than {worth:g} points from {enough} labels on ({low} to "
        f"{high}).{beyond}",
        f"{source}, {form} fit: from {half[0]:,} to {half[-1]:,} labels, {one['foretold']:.2%} was to be expected at "
        f"{sizes[-1]:,} ({one['foretold_interval'][0]:.2%} to {one['foretold_interval'][1]:.2%}), off by "
        f"{100 * one['foretold_error']:+.2f} points ({100 * least:+.2f} to {100 * most:+.2f}): {within} 1 point.",
    ]


def _number(size: float, smallest: float) -> str:
    if size <= smallest:
        return f"{smallest:,.0f} or fewer"
    return f"over {FAR:,.0f}" if size > 0.999 * FAR else f"{size:,.0f}"


def draw(rows: list[dict], found: dict) -> Figure:
    """The points with their intervals, the curve through all of them and the one through the smaller half."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for source, colour in (("gold", BLUE), ("silver", ORANGE)):
        mine = [row for row in rows if row["source"] == source]
        x = [row["labels"] for row in mine]
        axes.plot(x, [100 * row["accuracy %"] for row in mine], "o", color=colour, label=source)
        axes.vlines(x, *([100 * row[end] for row in mine] for end in ("low %", "high %")), color=colour, alpha=0.6)
        axes.plot(x, [100 * row["prior, all %"] for row in mine], color=colour, label=f"{source}, power law")
        axes.plot(
            x, [100 * row["prior, half %"] for row in mine], "--", color=colour,
            label=f"{source}, foretold from the first half: {100 * found[source]['prior']['foretold_error']:+.1f} points off",
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [f"{size:,}" for size in x])
    axes.set(xlabel="labels", ylabel="accuracy on held-out gold, percent")
    axes.legend(frameon=False, fontsize="small")
    return figure


if __name__ == "__main__":
    run_recipe(SubsetArguments, main)
