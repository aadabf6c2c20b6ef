"""The Markdown of a report, and the rows that every form of it shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hf_llambert.pool.labelled import cascade_summary
from hf_llambert.report.sentences import finding_sentences
from hf_llambert.review.summary import summary_lines
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import FIELD, markdown_text, visible


def summary_rows(report: Mapping) -> list[tuple[str, str, str, str]]:
    """Rows of the table that ends a run: who, accuracy with its interval, macro-F1, texts per second."""
    rows = []
    for name in ("teacher", "student", "baseline"):
        part = report[name]
        if part is None:
            continue
        accuracy, f1 = "no gold", ""
        if part.get("accuracy") is not None:
            accuracy = (
                f"{part['accuracy']:.1%} ({part['accuracy_low']:.1%} to {part['accuracy_high']:.1%}, n={part['n']:,})"
            )
            f1 = f"{part['macro_f1']:.3f}" + _over(part)
        speed = part.get("texts_per_second")
        rows.append((part["what"], accuracy, f1, f"{speed:,.1f}" if speed else ""))
    return rows


def _over(quality: Mapping) -> str:
    """Over how many classes macro-F1 is taken, where gold has not all of them."""
    classes = quality.get("per_class") or {}
    with_gold = sum(one["support"] > 0 for one in classes.values())
    return f" (over {with_gold} of {len(classes)} classes)" if with_gold < len(classes) else ""


def between(found: Mapping, name: str) -> str:
    """A share with its interval, where it was noted."""
    low, high = found.get(f"{name}_low"), found.get(f"{name}_high")
    return f"{found[name]:.3f}" + ("" if low is None or high is None else f" ({low:.2f} to {high:.2f})")


def report_markdown(report: Mapping, figures: list[tuple[str, str]], rows: list[dict], task: TaskSpec) -> str:
    """
    The text of `report.md`.

    Args:
        report (`Mapping`): The content of `report.json`.
        figures (`list[tuple[str, str]]`): Files in `figures/` with their alternative texts.
        rows (`list[dict]`): Disagreements to show, as in [`report_page`].
        task (`TaskSpec`): The task.
    """
    teacher = report["teacher"]
    lines = [f"# Report: {markdown_text(task.name)}", ""]
    lines += ["| | accuracy (95 % interval) | macro-F1 | texts/s |", "|---|---|---|---|"]
    lines += [f"| {who} | {accuracy} | {f1} | {speed} |" for who, accuracy, f1, speed in summary_rows(report)]
    lines += ["", *(_teacher_lines(report, task) if teacher else [])]
    lines += _student_lines(report) if report["student"] else []
    if report["labels"]:
        lines.append(
            f"- labelled by the student: {report['n_labelled']:,} texts in {report['labels']['seconds']:.0f} s"
        )
    if report["cascade"]:
        lines += [f"- cascade: {line}" for line in cascade_summary(report["cascade"])]
    if report.get("cost"):
        cost = report["cost"]
        parts = ", ".join(
            f"{name} {cost[name]:,.4g}" for name in ("annotate", "train", "label") if cost[name] is not None
        )
        lines.append(f"- cost: {cost['total']:,.4g} {markdown_text(cost['currency'])} ({parts})")
    lines += _gate_lines(report["gate"]) if "gate" in report else []
    lines += _prevalence_lines(report["prevalence"]) if report.get("prevalence") else []
    found = finding_sentences(report)
    if found:
        lines += ["", "## What was found", "", *(f"- {markdown_text(sentence)}" for sentence in found)]
    if report.get("review"):
        lines += ["", "## What people reviewed", "", *(f"- {markdown_text(line)}" for line in reviewed(report))]
    if report["student"] and report["student"]["train"]["selection"]:
        lines += ["", "## From annotated to silver", ""]
        lines += [
            f"| rule | rows left | {' | '.join(map(markdown_text, task.labels))} |",
            "|---|---|" + "---|" * task.num_labels,
        ]
        lines += [
            f"| {markdown_text(count['rule'])} | {count['n']:,} | "
            + " | ".join(f"{count['per_label'][name]:,}" for name in task.labels)
            + " |"
            for count in report["student"]["train"]["selection"]
        ]
    if report.get("choices"):
        lines += ["", "## How things were chosen", ""]
        lines += [f"- **{markdown_text(name)}**: {markdown_text(why)}" for name, why in report["choices"].items()]
    for part in ("teacher", "student"):
        if report[part] and report[part].get("per_class"):
            lines += ["", f"## {part.capitalize()} by class", ""]
            lines += ["| class | precision | recall | F1 | gold rows |", "|---|---|---|---|---|"]
            lines += [
                f"| {markdown_text(name)} | {between(q, 'precision')} | {between(q, 'recall')} | {q['f1']:.3f} "
                f"| {q['support']:,} |"
                for name, q in report[part]["per_class"].items()
            ]
            more = [f"MCC {report[part]['mcc']:.3f}"]
            more += [f"expected calibration error {report[part]['ece']:.3f}"] if "ece" in report[part] else []
            lines += ["", ", ".join(more)]
    if figures:
        lines += ["", "## Figures", ""] + [f"![{alt}](figures/{name})\n" for name, alt in figures]
    lines += _examples(report, rows, task)
    lines += ["## Prompt", "", *(f"    {line}" for line in shown_prompt(task).splitlines()), ""]
    return "\n".join(lines)


def reviewed(report: Mapping) -> list[str]:
    """What a review found and what became of it, in sentences."""
    student = report["student"]
    learnt = student["train"]["n_gold"] if student else 0
    if learnt:
        became = f"the student learnt from {learnt:,} gold labels; report --against another run says what that changed"
    else:
        became = "the student has not learnt from it: train with --gold RUN/review/gold"
    return [*summary_lines(report["review"]), became]


def _gate_lines(gate: Mapping) -> list[str]:
    lines = [
        "",
        f"## The gate: {'passed' if gate['passed'] else 'missed'}",
        "",
        "| | condition | wanted | got |",
        "|---|---|---|---|",
    ]
    return lines + [
        f"| {'✓ passed' if one['passed'] else '✗ missed'} | {markdown_text(one['name'])} | {one['wanted']} | "
        f"{markdown_text(one['got'] + (': ' if one['why'] else '') + one['why'])} |"
        for one in gate["conditions"]
    ]


def _prevalence_lines(prevalence: Mapping) -> list[str]:
    lines = ["", "## How common each class is in the pool", "", "If the held-out texts are a random sample of it.", ""]
    lines += ["| class | share (95 % interval) | as the student counts |", "|---|---|---|"]
    return lines + [
        f"| {markdown_text(name)} | {one['share']:.3f} ({one['low']:.2f} to {one['high']:.2f}) | {one['counted']:.3f} |"
        for name, one in prevalence.items()
    ]


def _student_lines(report: Mapping) -> list[str]:
    teacher, lines = report["teacher"], []
    train = report["student"]["train"]
    lines.append(
        f"- student: {markdown_text(Path(train['student']).name)}, {train['n_silver']:,} silver and {train['n_gold']:,} gold "
        f"labels, seed {train['seed']}, {train['seconds']:.0f} s of training"
    )
    if "seeds" in report:
        found = report["seeds"]["accuracy"]
        lines.append(
            f"- over {len(report['seeds']['seeds'])} seeds the accuracy is {found['mean']:.1%} on average, 95 % interval "
            f"{found['low']:.1%} to {found['high']:.1%}"
        )
    if "student_less_baseline" in report:
        found = report["student_less_baseline"]
        lines.append(
            f"- student less baseline: {found['difference']:+.1%}, 95 % interval {found['low']:+.1%} to "
            f"{found['high']:+.1%} (paired bootstrap over the {found['n']:,} held-out texts)"
        )
    if "against" in report:
        found = report["against"]
        other = markdown_text(found["run"])
        lines.append(
            f"- less the student of {other}: {found['difference']:+.1%}, 95 % interval {found['low']:+.1%} "
            f"to {found['high']:+.1%} (paired bootstrap over {found['runs']} pair(s) of students and {found['n']:,} texts)"
        )
    if teacher and teacher["texts_per_second"] and report["student"].get("texts_per_second"):
        ratio = report["student"]["texts_per_second"] / teacher["texts_per_second"]
        lines.append(f"- the student labels {ratio:.1f} times as many texts a second as the teacher, on this machine")
    return lines


def _teacher_lines(report: Mapping, task: TaskSpec) -> list[str]:
    teacher = report["teacher"]
    lines = [
        f"- annotated by the teacher: {report['n_annotated']:,} texts ({teacher['n_ok']:,} ok, "
        f"{teacher['n_abstained']:,} abstained, {teacher['n_failed']:,} failed, {teacher['n_truncated']:,} cut to fit); "
        f"coverage {teacher['coverage']:.1%}",
    ]
    lines += [f"  - {markdown_text(reason)}: {count:,}" for reason, count in teacher["reasons"].items()]
    if teacher["mode"] == "jury":
        lines += ["", "## The jury", "", f"By {teacher['jury']['method']}; {teacher['jury']['n_ties']:,} ties.", ""]
        lines += [
            "| member | usable | accuracy against gold | agreement with the jury | believed |",
            "|---|---|---|---|---|",
        ]
        for name, member in teacher["members"].items():
            quality, agreement = member.get("quality") or {}, teacher["jury"]["agreement"][name]
            cells = [quality.get("accuracy"), agreement, teacher["jury"]["believed"].get(name)]
            shown = " | ".join("–" if cell is None else f"{cell:.1%}" for cell in cells)
            lines.append(f"| {markdown_text(name)} | {member['n_ok']:,} | {shown} |")
        lines.append("")
    if teacher["calibration"]:
        bias = ", ".join(f"{n} {b:+.2f}" for n, b in zip(task.labels, teacher["calibration"]["bias"], strict=True))
        lines.append(f"- calibration: {teacher['calibration']['method']} ({markdown_text(bias)})")
    if teacher["label_mass"] is not None:
        lines.append(
            f"- label mass (probability that the teacher put on the label words): {teacher['label_mass']:.3f}"
        )
    return lines


def _examples(report: Mapping, rows: list[dict], task: TaskSpec) -> list[str]:
    counts = report["disagreements"]
    if not rows:
        return []
    lines = ["", "## Where they disagree", ""]
    lines.append(
        f"Of the {report['n_annotated']:,} annotated texts: teacher and gold differ on {counts['teacher_gold']:,}, student "
        f"and gold on {counts['student_gold']:,}, teacher and student on {counts['teacher_student']:,}. The student "
        f"learnt from the teacher's labels of these texts. Shown: those of which the teacher was surest."
    )
    lines += ["", "| teacher | student | gold | confidence | text |", "|---|---|---|---|---|"]
    for row in rows:
        names = [
            markdown_text(task.labels[row[k]]) if row[k] != ABSTAIN else "–" for k in ("teacher", "student", "gold")
        ]
        confidence = "" if row["confidence"] is None else f"{row['confidence']:.2f}"
        lines.append(f"| {' | '.join(names)} | {confidence} | {markdown_text(row['text'])} |")
    return [*lines, ""]


def shown_prompt(task: TaskSpec) -> str:
    """The prompt in full, `{text}` where the text goes; the turns of a chat named."""
    turns = task.messages(FIELD.join(f"{{{name}}}" for name in task.fields))
    if not task.chat:
        return visible(turns[0]["content"])
    said = "\n".join(f"[{turn['role']}] {turn['content']}" for turn in turns)
    return visible(f"{said}\n[assistant] {task.lead_in}")
