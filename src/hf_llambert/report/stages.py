"""What the stages of a run noted, as a report takes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from hf_llambert.data import STAGE_FILE, damaged_note, read_note
from hf_llambert.headline import RIGHT
from hf_llambert.misfits import ANY, COUNT, DIFFERENCE, SHARE, Chosen, Shape
from hf_llambert.notes import ENCODER, is_of_several, read_stage
from hf_llambert.pool.labelled import labels_identity, run_labels
from hf_llambert.quality.curves import CURVE_FILE, worth_of_labels
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec

logger = get_logger(__name__)

_KINDS = {"baseline": "student"}
_MORE = 500  # labels whose worth is told


def stage_note(folder: Path) -> dict | None:
    """The note of a stage; `None` where it was not run."""
    path = folder / STAGE_FILE
    return read_stage(path, _KINDS.get(folder.name, folder.name)) if path.is_file() else None


def part_stages(stages: Mapping[str, dict | None], task: TaskSpec, name: str) -> dict[str, dict | None]:
    """
    The notes of stages as one question sees them: the figures of the others left out, its own in the places of an only one.

    Args:
        stages (`Mapping[str, dict | None]`): Notes by stage.
        task (`TaskSpec`): The task.
        name (`str`): The question, by the names of [`TaskSpec.parts`].
    """
    if not name:
        return dict(stages)
    out = dict(stages)
    if annotated := stages.get("annotated"):
        results = {key: value for key, value in annotated["results"].items() if key not in ("questions", "members")}
        own = annotated["results"].get("questions", {}).get(name, {})
        members = {
            who: {**of_member, **of_member.get("questions", {}).get(name, {})}
            for who, of_member in annotated["results"].get("members", {}).items()
        }
        out["annotated"] = {
            "config": {**annotated["config"], "task": task.parts[name].to_dict()},
            "results": {"label_mass": None, "calibration": None, **results, **own, "members": members},
        }
    for stage in ("student", "baseline"):
        if trained := stages.get(stage):
            train = trained["results"]["train"]
            rules = [rule for rule in train["selection"] if rule.get("question", name) == name]
            out[stage] = {
                "config": trained["config"],
                "results": {
                    "train": {**train, "selection": rules},
                    "eval": (trained["results"].get("eval") or {}).get(name),
                },
            }
    return out


def shared_stages(stages: Mapping[str, dict | None]) -> dict[str, dict | None]:
    """The notes of the stages of several questions without the figures of any."""
    out = dict(stages)
    if annotated := stages.get("annotated"):
        results = {key: value for key, value in annotated["results"].items() if key != "questions"}
        out["annotated"] = {**annotated, "results": results}
    for stage in ("student", "baseline"):
        if trained := stages.get(stage):
            results = {key: value for key, value in trained["results"].items() if key not in ("eval", "linear")}
            out[stage] = {**trained, "results": results}
    return out


def check_sizes(run: Path, stages: Mapping[str, dict | None], task: TaskSpec) -> None:
    """Raise an `OSError` where figures are not of the questions of the task, or not of so many labels."""
    several = len(task.parts) > 1
    for stage, place in (("annotated", "questions"), ("student", "eval"), ("baseline", "eval")):
        found = (stages.get(stage) or {"results": {}})["results"].get(place)
        if found and is_of_several(found) != several:
            raise damaged_note(
                run / stage / STAGE_FILE, f"expected figures of {len(task.parts)} question(s) at 'results.{place}'"
            )
    _check_words(run / "student" / STAGE_FILE, (stages.get("student") or {"results": {}})["results"], task)
    for name, one in task.parts.items():
        seen = part_stages(stages, task, name)
        where = f".{name}" if name else ""
        for stage, place in (("annotated", "quality"), ("student", "eval"), ("baseline", "eval")):
            results = (seen.get(stage) or {"results": {}})["results"]
            quality = results.get(place)
            tables = [quality[key] for key in ("confusion", "per_class") if key in quality] if quality else []
            if {len(table) for table in tables} - {one.num_labels}:
                inside = (
                    f"results.questions{where}.{place}" if name and stage == "annotated" else f"results.{place}{where}"
                )
                path = run / stage / STAGE_FILE
                raise damaged_note(path, f"expected figures of {one.num_labels} labels at '{inside}'")
            found = results.get("calibration")
            if found and len(found["bias"]) != one.num_labels:
                path = run / stage / STAGE_FILE
                raise damaged_note(path, f"expected a bias for each of {one.num_labels} labels, got {found['bias']}")


def _check_words(path: Path, results: Mapping, task: TaskSpec) -> None:
    """The same of the linear student that was fitted beside the student."""
    linear = results.get("linear") or {}
    for place, found in ((name, linear.get(name)) for name in ("eval", "difference")):
        if found and is_of_several(found) != (len(task.parts) > 1):
            raise damaged_note(path, f"expected figures of {len(task.parts)} question(s) at 'results.linear.{place}'")
    for name, one in task.parts.items():
        quality = (linear.get("eval") or {}).get(name, {}) if name else linear.get("eval") or {}
        if {len(quality[key]) for key in ("confusion", "per_class") if key in quality} - {one.num_labels}:
            where = f".{name}" if name else ""
            raise damaged_note(path, f"expected figures of {one.num_labels} labels at 'results.linear.eval{where}'")


def stage_figures(stages: Mapping[str, dict | None], task: TaskSpec) -> dict:
    """The parts of a report that the stages themselves noted."""
    annotation, student, baseline, labels, cascaded = (
        stage["results"] if (stage := stages[name]) else None
        for name in ("annotated", "student", "baseline", "labels", "cascade")
    )
    teacher = None
    if annotation:
        counts = {name: value for name, value in annotation.items() if name not in ("quality", "n_rows")}
        quality = annotation.get("quality") or {}
        what = "teacher, on the annotated sample"
        coverage = {"coverage": annotation["coverage"]} if "coverage" in annotation else {}
        teacher = {"what": what, **counts, **quality, **coverage}
    out: dict = {
        "task": task.to_dict(),
        "teacher_identity": stages["annotated"]["config"].get("teacher") if stages["annotated"] else None,
        "n_annotated": annotation["n_rows"] if annotation else None,
        "n_silver": student["train"]["n_silver"] if student else None,
        "n_labelled": labels["n_labelled"] if labels else None,
        "teacher": teacher,
        "student": None,
        "baseline": None,
        "labels": labels or None,
        "cascade": cascaded or None,
    }
    if stages["annotated"] and "members" in stages["annotated"]["config"]:
        out["members"] = stages["annotated"]["config"]["members"]
    if student:
        out["student"] = {
            "what": "student, on held-out gold",
            **(student.get("eval") or {}),
            "train": student["train"],
        }
        if labels and "by_stage" not in labels:  # the speed of two students is not this one's
            out["student"]["texts_per_second"] = labels["texts_per_second"]
    if baseline:
        what = "baseline: the same student on gold labels"
        out["baseline"] = {"what": what, **(baseline.get("eval") or {}), "train": baseline["train"]}
    return out


def how_made(note: Mapping) -> dict:
    """How a student reads and was trained, from its `training.json`; of one that is no encoder also its kind and questions."""
    how = {"reading": note["reading"], "arguments": note["training"]["arguments"]}
    if note.get("kind", ENCODER) == ENCODER:
        return how
    return {**how, "kind": note["kind"], "questions": note["questions"]}


def notes_of_student(run: Path) -> tuple[dict[str, dict | None], dict[str, str]]:
    """
    What a run's student left: the notes of the pool that it labelled to its end and of its cascade.

    Args:
        run (`Path`): Folder of the run.

    Returns:
        `tuple[dict, dict]`: The notes of `labels` and `cascade`, or `None`; and by name why one that is there, or
            `prevalence`, is left out.
    """
    found, cascade = run_labels(run), run / "cascade" / STAGE_FILE
    note = read_stage(cascade, "cascade") if cascade.is_file() else None
    left_out = {"labels": why} if found is not None and (why := found.left_out) else {}
    if note and found is not None and (left_out or labels_identity(found.shards()) != note["config"].get("labels")):
        left_out["cascade"] = (
            "'cascade' is left out: it is of other labels. Run hf-llambert label with its options again."
        )
    if found is not None and found.of_two and "labels" not in left_out:
        left_out["prevalence"] = (
            "How common each class is in the pool is not told: a fast student answered some of it, and the held-out texts were "
            "answered by the trained student alone."
        )
    notes = {"labels": found.note if found is not None else None, "cascade": note}
    return {name: None if name in left_out else one for name, one in notes.items()}, left_out


def student_less_teacher(student: Mapping | None, teacher: Mapping | None, kind: str = "choice") -> dict | None:
    """
    The student's share of right answers ([`RIGHT`]) on held-out texts less the teacher's on annotated ones, with the 95 %
    interval of Newcombe (1998, method 10) for shares of different texts. `None` where one was not measured.
    """
    right = RIGHT[kind]
    if not student or not teacher or student.get(right) is None or teacher.get(right) is None:
        return None
    (ours, our_low, our_high), (theirs, their_low, their_high) = (
        [part[f"{right}{end}"] for end in ("", "_low", "_high")] for part in (student, teacher)
    )
    down, up = math.hypot(ours - our_low, their_high - theirs), math.hypot(our_high - ours, theirs - their_low)
    return {"difference": ours - theirs, "low": ours - theirs - down, "high": ours - theirs + up}


def measured_alike(first: dict | None, second: dict | None) -> bool:
    """Whether two students were measured, and on the same texts."""
    texts = [stage["config"]["eval_data"] if stage else None for stage in (first, second)]
    return texts[0] is not None and texts[0] == texts[1]


def advice(run: Path, task: TaskSpec, name: str = "") -> dict | None:
    """
    What more labels are worth to a question, from the run's learning curve; `None` where it has none of its student.

    Args:
        run (`Path`): Folder of the run.
        task (`TaskSpec`): The task.
        name (`str`, defaults to none): The question, by the names of [`TaskSpec.parts`].
    """
    path = run / CURVE_FILE
    if not path.is_file():
        return None
    try:
        curve = read_note(path, _CURVE)
        if task.questions:
            of = curve.get("questions", {}).get(name or task.question.name)
            if of is None:
                return None
            curve |= {"accuracy": of["values"], "figure": of["figure"], "n_eval": of["n_eval"]}
            del curve["questions"]
        sizes, accuracy = curve["sizes"], curve["accuracy"]
        if None in accuracy:
            logger.warning("'%s' has students without %s and is left out.", path, curve["figure"])
            return None
        student = run / "student" / "metrics.json"
        if student.is_file() and read_note(student, {"train": {"n": int}})["train"]["n"] != curve["n_train"]:
            logger.warning(
                "'%s' is of another number of labels than the student, and is left out: train --curve.", path
            )
            return None
        return {"n_eval": int(curve["n_eval"]), **curve, **worth_of_labels(sizes, accuracy, min(_MORE, max(sizes)))}
    except (ValueError, OSError) as error:
        logger.warning("'%s' is no learning curve (%s) and is left out. Remove it, or make it again.", path, error)
        return None


_OF_ONE: Shape = {"sizes": [COUNT], "accuracy": [SHARE], "n_eval": COUNT, "n_train": COUNT}
_OF_QUESTIONS: Shape = {
    "sizes": [COUNT],
    "n_train": COUNT,
    "questions": {ANY: {"figure": str, "values": [(DIFFERENCE, None)], "n_eval": COUNT}},
}
_CURVE: Shape = Chosen(lambda value: _OF_QUESTIONS if isinstance(value, Mapping) and "questions" in value else _OF_ONE)
