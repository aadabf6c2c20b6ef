"""Cards of published datasets and students, and how they are merged with what people wrote into them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import yaml
from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData, RepoCard
from huggingface_hub.repocard_data import eval_results_to_model_index
from jinja2 import Environment, PackageLoader, StrictUndefined

from hf_llambert.hub.student_kinds import STUDENT_KINDS, shown_logits
from hf_llambert.notes import ENCODER
from hf_llambert.quality.report_parts import question_reports
from hf_llambert.report.kinds import OF_KIND, is_measured, kind_of, more_figures
from hf_llambert.report.markdown import is_plain, shown_prompt, summary_head, summary_rows
from hf_llambert.report.sentences import worth_told
from hf_llambert.shown import scrubbed
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import markdown_text, visible

_SECTION = re.compile(r"^<!-- hf_llambert: ([a-z_]+) -->\n(.*?)^<!-- /hf_llambert: \1 -->\n", re.DOTALL | re.MULTILINE)
_MARKER = re.compile(r"^<!-- /?hf_llambert: [a-z_]+ -->$", re.MULTILINE)
_OWN = ("license", "size_categories", "annotations_creators", "task_categories")  # facts, which are replaced
_METRICS = {
    "choice": {
        "accuracy": ("accuracy", "Accuracy"),
        "macro_f1": ("f1", "Macro-F1"),
        "mcc": ("mcc", "Matthews correlation"),
        "ece": ("ece", "Calibration error"),
    },
    "choices": {
        "micro_f1": ("f1", "Micro-F1"),
        "macro_f1": ("f1", "Macro-F1"),
        "subset_accuracy": ("accuracy", "All labels right"),
        "ece": ("ece", "Calibration error"),
    },
    "scale": {
        "spearman": ("spearmanr", "Spearman correlation"),
        "pearson": ("pearsonr", "Pearson correlation"),
        "mae": ("mae", "Mean absolute error"),
        "kappa": ("cohen_kappa", "Quadratic kappa of the nearest levels"),
        "ece": ("ece", "Calibration error"),
    },
}
"""By the kind of a question the figures of a card's metadata, with their type and name there."""
_FIGURES = {
    "choice": (("confusion.png", "Confusion matrices"),),
    "choices": (("labels-student.png", "The student by label"), ("labels-teacher.png", "The teacher by label")),
    "scale": (("scale.png", "Answers by people's"), ("levels.png", "How often each level is given")),
}


@dataclass(frozen=True)
class Publication:
    """
    What people decide about a publication.

    Args:
        repo_id (`str`): Name on the Hub of the dataset and the student, such as `our-team/reviews`.
        license (`str`): Licence, as the Hub names it, such as `apache-2.0` or `cc-by-4.0`.
        language (`tuple[str, ...]`): Languages of the texts as ISO codes, such as `en`.
        base_model (`str`, *optional*): Hub id of the encoder that the student started from. Defaults to what it was
            trained from, if that was a Hub id.
        source_datasets (`tuple[str, ...]`): Hub ids of the datasets that the texts are from.
    """

    repo_id: str
    license: str
    language: tuple[str, ...] = ()
    base_model: str | None = None
    source_datasets: tuple[str, ...] = ()


def dataset_card(report: Mapping, publication: Publication, configs: Mapping[str, Mapping[str, object]]) -> str:
    """
    The card of a published dataset.

    Args:
        report (`Mapping`): What [`write_report`] found.
        publication (`Publication`): Name, licence, languages.
        configs (`Mapping[str, Mapping]`): `rows` and `columns` (names with types) of each configuration.

    Returns:
        `str`: YAML metadata and Markdown with generated sections, which [`merge_cards`] knows again.
    """
    data = DatasetCardData(
        pretty_name=report["task"]["name"],
        license=publication.license,
        language=list(publication.language) or None,
        annotations_creators=["machine-generated"],
        source_datasets=list(publication.source_datasets) or None,
        task_categories=["text-classification"],
        size_categories=[_size(max(int(str(c["rows"])) for c in configs.values()))],
        tags=["hf_llambert", "llm-annotated"],
        configs=[
            {
                "config_name": name,
                "data_files": [{"split": "train", "path": f"{name}/*.parquet"}],
                **({"default": True} if name == "silver" else {}),
            }
            for name in configs
        ],
    )
    return render("dataset.md.jinja", data, report, publication, configs=configs)


def model_card(
    report: Mapping, publication: Publication, with_dataset: bool = True, distilled: Mapping[str, str] | None = None
) -> str:
    """
    The card of a published student; see [`dataset_card`].

    Args:
        report (`Mapping`): What [`write_report`] found.
        publication (`Publication`): Name, licence, languages.
        with_dataset (`bool`, defaults to `True`): Whether the dataset is published too.
        distilled (`Mapping[str, str]`, *optional*): By their kinds the names of the students that are published with it.
    """
    train, kind = report["student"]["train"], student_kind(report)
    begun = train.get("vectors", train["student"]).partition("@")[0]
    base = publication.base_model or (begun if "/" in begun else None)
    data = model_data(report, publication, publication.repo_id, kind, with_dataset, base)
    more = {"with_dataset": with_dataset, "base": base, "distilled": distilled or {}}
    return render("model.md.jinja", data, report, publication, **more)


def model_data(
    report: Mapping, publication: Publication, repo_id: str, kind: str, with_dataset: bool, base: str | None
) -> ModelCardData:
    """The metadata of a student's card; `repo_id` is its own name, `base` what its weights began with."""
    own = STUDENT_KINDS[kind]
    return ModelCardData(
        license=publication.license,
        language=list(publication.language) or None,
        base_model=base,
        library_name=own.library,
        pipeline_tag="text-classification",
        datasets=[publication.repo_id] if with_dataset else None,
        metrics=metric_types(report),
        tags=["hf_llambert", "text-classification", *own.tags],
        model_name=repo_id.partition("/")[2],
        eval_results=eval_results(report, publication) or None,
    )


def student_kind(report: Mapping) -> str:
    """The kind of the student that a report is of; an encoder is not noted."""
    return (report["student"] or {}).get("kind", ENCODER)


def shards_card(student: str | None, rows: int | None) -> str:
    """
    The section about a labelled pool that was uploaded alone. A push replaces it.

    Args:
        student (`str`, *optional*): Content of the student; of two see [`Labels.made_by`].
        rows (`int`, *optional*): How many rows it has, where it is labelled to its end.
    """
    data = DatasetCardData(
        annotations_creators=["machine-generated"],
        task_categories=["text-classification"],
        tags=["hf_llambert"],
        configs=[{"config_name": "labels", "data_files": [{"split": "train", "path": "labels/*.parquet"}]}],
    )
    grows = "These are **part of the pool only**: the table grows while the run goes on."
    return f"""---
{data.to_yaml()}
---
<!-- hf_llambert: labels -->
## Labels by a student

`labels/` holds a corpus that a small text classifier ({student}) labelled with `hf_llambert`. **The labels are
machine-generated.** {grows if rows is None else f"All {rows:,} rows of the pool are there."}
<!-- /hf_llambert: labels -->
"""


def merge_cards(
    existing: str | None, fresh: str, kind: type[DatasetCard] | type[ModelCard], part: bool = False
) -> str:
    """
    A fresh card in which what people wrote into the existing one stays.

    Generated sections stand between `<!-- hf_llambert: NAME -->` and `<!-- /hf_llambert: NAME -->` and are replaced;
    everything else of the existing card is kept, metadata of their own included. A section that the fresh card has not goes,
    unless it is of a `part` of the repository only.

    Raises:
        ValueError: The existing card's metadata is no YAML, or a section's end is missing.
    """
    if existing is None or not existing.strip():
        return fresh
    try:
        old, new = kind(existing), kind(fresh)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(
            f"The card on the Hub has metadata that cannot be read ({error}). Mend its README.md."
        ) from error
    text = old.text.replace("\r\n", "\n").rstrip("\n") + "\n"
    if len(_MARKER.findall(text)) != 2 * len(_SECTION.findall(text)):
        raise ValueError(
            "The card on the Hub has a generated section whose beginning or end is missing. Mend its README.md: each "
            "'<!-- hf_llambert: NAME -->' needs its '<!-- /hf_llambert: NAME -->'."
        )
    sections = {match[1]: match[0] for match in _SECTION.finditer(new.text)}
    placed = {name for name, _ in _SECTION.findall(text)}
    if not part and not _SECTION.sub("", text).strip():  # nobody wrote anything
        text, placed = new.text, set(sections)
    text = _SECTION.sub(lambda match: sections.get(match[1], match[0] if part else ""), text)
    missing = [section for name, section in sections.items() if name not in placed]
    if missing:
        text = text.rstrip("\n") + "\n\n" + "\n".join(missing)
    data = kind.card_data_class(**_merged(old, new))
    return f"---\n{data.to_yaml()}\n---\n{text}"


def metric_types(report: Mapping) -> list[str]:
    """The metrics that a student's card names."""
    kinds = [TaskSpec.from_dict(one["task"]).question.kind for one in question_reports(report).values()]
    if kinds == ["choice"]:
        return ["accuracy", "f1"]
    found = [kind for name in kinds for kind, _ in _METRICS[name].values() if kind != "ece"]
    return list(dict.fromkeys(found))


def _seen(report: Mapping) -> list[dict]:
    """What the cards show of each question; of an only one it has no name."""
    out = []
    for name, one in question_reports(report).items():
        task = TaskSpec.from_dict(one["task"])
        question = task.question
        measured = any(is_measured(one[who]) for who in ("teacher", "student"))
        begin = f"{name}-" if name else ""
        drawn = [(f"{begin}{file}", alt) for file, alt in _FIGURES[question.kind]] if measured else []
        if measured and (one["student"] or one["teacher"]).get("reliability"):
            drawn.append((f"{begin}calibration.png", "Accuracy against confidence"))
        missing = {f"labels-{who}.png" for who in ("student", "teacher") if not is_measured(one[who])}
        out.append(
            {
                "name": name,
                "kind": question.kind,
                "of_kind": OF_KIND[question.kind],
                "report": one,
                "task": task,
                "note": OF_KIND[question.kind].note(question),
                "more": {
                    who: more_figures(kind_of(task), one[who])
                    for who in ("teacher", "student")
                    if is_measured(one[who])
                },
                "figures": [pair for pair in drawn if pair[0].removeprefix(begin) not in missing],
                "meanings": [pair for pair in zip(task.labels, task.descriptions, strict=True) if pair[1]],
            }
        )
    return out


def render(
    template: str, data: DatasetCardData | ModelCardData, report: Mapping, publication: Publication, **more: object
) -> str:
    """A card: `data` above the page that a template makes of a report."""
    report = cast(Mapping, scrubbed(report))
    task = TaskSpec.from_dict(report["task"])
    page = _environment().get_template(template)
    seen = _seen(report)
    body = page.render(
        report=report,
        task=task,
        seen=seen,
        several=len(seen) > 1,
        plain=is_plain(report),
        measured={who: any(is_measured(one["report"][who]) for one in seen) for who in ("teacher", "student")},
        prompt=shown_prompt(task),
        head=summary_head(report),
        rows=summary_rows(report),
        worth=worth_told(report, advice=False),
        to=publication,
        kind=student_kind(report),
        logits=shown_logits((report["student"] or {}).get("questions", [])),
        commands=list(dict.fromkeys(m["command"] for m in report["made"].values() if m["command"])),
        machines=sorted({m["machine"] for m in report["made"].values()}),
        version=next(iter(report["made"].values()))["hf_llambert"] if report["made"] else None,
        **more,
    )
    return f"---\n{data.to_yaml()}\n---\n{re.sub(chr(10) + '{3,}', chr(10) * 2, body)}"


@functools.cache
def _environment() -> Environment:
    """Jinja with the templates of the cards, each compiled once."""
    # Values are escaped by `text`, for Markdown; Jinja's own escaping is for HTML.
    environment = Environment(
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=PackageLoader("hf_llambert.hub"),
    )  # noqa: S701
    environment.finalize = lambda value: visible(value) if isinstance(value, str) else value
    environment.filters |= {"text": markdown_text, "percent": lambda x: f"{x:.1%}", "count": lambda n: f"{n:,}"}
    environment.filters["whole"] = lambda x: f"{x:,.0f}" if x >= 10 else f"{x:.3g}"
    return environment


def eval_results(report: Mapping, publication: Publication) -> list[EvalResult]:
    """The student's figures on held-out gold, as a card's metadata has them."""
    out = []
    for question, seen in question_reports(report).items():
        student = seen["student"]
        if not is_measured(student):
            continue
        source = student["source"]
        name = re.sub(r"[^a-z0-9]+", "-", source.lower()).strip("-") or "held-out"
        common: dict = {
            "task_type": "text-classification",
            "task_name": "Text classification",
            "dataset_type": publication.source_datasets[0] if publication.source_datasets else name,
            "dataset_name": f"{source} ({student['n']:,} texts with gold labels)",
        }
        if question:
            common |= {"dataset_config": question, "dataset_name": f"{question}: {common['dataset_name']}"}
        out += [
            EvalResult(metric_type=kind, metric_name=label, metric_value=round(student[key], 4), **common)
            for key, (kind, label) in _METRICS[TaskSpec.from_dict(seen["task"]).question.kind].items()
            if student.get(key) is not None
        ]
    return out


def _merged(old: RepoCard, new: RepoCard) -> dict:
    """Metadata of both: what is generated wins, people's other fields, list entries and evaluation results stay."""
    before, after = old.data.to_dict(), new.data.to_dict()
    out = {**before, **after}
    for name, value in after.items():
        if name == "configs":
            names = {config["config_name"] for config in value}
            out[name] = [*value, *(c for c in before.get(name, []) if c.get("config_name") not in names)]
        elif isinstance(value, list) and name not in (*_OWN, "model-index"):
            there = before.get(name, [])
            out[name] = list(dict.fromkeys([*([there] if isinstance(there, str) else there), *value]))
    fresh, there = new.data.get("eval_results") or [], old.data.get("eval_results") or []
    if fresh or there:
        keys = {(result.unique_identifier, result.metric_type) for result in fresh}
        others = [result for result in there if (result.unique_identifier, result.metric_type) not in keys]
        out["model-index"] = eval_results_to_model_index(new.data.get("model_name") or "student", [*fresh, *others])
    return out


def _size(rows: int) -> str:
    """The Hub's size category of a number of rows."""
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
    return next((name for power, name in enumerate(names) if rows < 10 ** (power + 3)), "10B<n<100B")
