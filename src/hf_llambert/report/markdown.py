"""The Markdown of a report, and the rows that every form of it shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hf_llambert.headline import MAIN, RIGHT
from hf_llambert.pool.distilled import distilled_summary
from hf_llambert.pool.labelled import cascade_summary
from hf_llambert.quality.report_parts import question_reports
from hf_llambert.report.kinds import OF_KIND, OfKind, answer_words, is_measured, kind_of, more_figures, plain_summary
from hf_llambert.report.sentences import finding_sentences, question_sentences, stages_said, worth_told
from hf_llambert.review.summary import summary_lines
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import FIELD, markdown_text, visible

Summary = tuple[str, str, str, str]


def summary_head(report: Mapping) -> Summary:
    """Heads of the table that ends a run."""
    if is_plain(report):
        return "", "accuracy (95 % interval)", "macro-F1", "texts/s"
    return "", "against people's answers (95 % interval)", "and", "texts/s"


def is_plain(report: Mapping) -> bool:
    """Whether the run is of one question that one label answers."""
    return "questions" not in report and _kind(report) is OF_KIND["choice"]


def _kind(report: Mapping) -> OfKind:
    return kind_of(TaskSpec.from_dict(report["task"]))


def summary_rows(report: Mapping) -> list[Summary]:
    """
    Rows of the table that ends a run: who, the main figure with its interval (accuracy, where one label answers), the second
    (macro-F1), and texts per second; of several questions those of each.
    """
    rows = []
    for question, seen in question_reports(report).items():
        summary = plain_summary if is_plain(report) else _kind(seen).summary
        words = (seen["student"] or {}).get("linear")
        for part in (seen["teacher"], seen["student"], words, seen["baseline"]):
            if part is None:
                continue
            main, second = summary(part) if is_measured(part) else ("no gold", "")
            speed = part.get("texts_per_second")
            who = f"{question}: {part['what']}" if question else part["what"]
            rows.append((who, main, second, f"{speed:,.1f}" if speed else ""))
    return rows


def between(found: Mapping, name: str) -> str:
    """A share with its interval, where it was noted."""
    low, high = found.get(f"{name}_low"), found.get(f"{name}_high")
    return f"{found[name]:.3f}" + ("" if low is None or high is None else f" ({low:.2f} to {high:.2f})")


def report_markdown(
    report: Mapping, figures: Mapping[str, list[tuple[str, str]]], rows: Mapping[str, list[dict]], task: TaskSpec
) -> str:
    """
    The text of `report.md`.

    Args:
        report (`Mapping`): The content of `report.json`.
        figures (`Mapping[str, list[tuple[str, str]]]`): Files in `figures/` with their alternative texts, by question.
        rows (`Mapping[str, list[dict]]`): Disagreements to show, as in [`report_page`], by question.
        task (`TaskSpec`): The task.
    """
    teacher = report["teacher"]
    lines = [f"# Report: {markdown_text(task.name)}", ""]
    lines += [f"| {' | '.join(summary_head(report))} |".replace("|  |", "| |"), "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in summary_rows(report)]
    lines += ["", *(_teacher_lines(report, task) if teacher else [])]
    lines += _student_lines(report) if report["student"] else []
    if report["labels"]:
        who = "students" if "by_stage" in report["labels"] else "student"
        lines.append(f"- labelled by the {who}: {report['n_labelled']:,} texts in {report['labels']['seconds']:.0f} s")
    lines += [] if report["cascade"] else [f"- {line}" for line in stages_said(report)]
    if report["cascade"]:
        lines += [f"- cascade: {line}" for line in cascade_summary(report["cascade"])]
    if report.get("distilled"):
        lines += [f"- distilled: {line}" for line in distilled_summary(report["distilled"])]
    if report.get("cost"):
        cost = report["cost"]
        parts = ", ".join(
            f"{name} {cost[name]:,.4g}" for name in ("annotate", "train", "label") if cost[name] is not None
        )
        lines.append(f"- cost: {cost['total']:,.4g} {markdown_text(cost['currency'])} ({parts})")
    lines += _gate_lines(report["gate"]) if "gate" in report else []
    several = "questions" in report
    lines += [] if several else _prevalence_lines(report)
    lines += _found_lines(finding_sentences(report), "##")
    if report.get("review"):
        lines += ["", "## What people reviewed", "", *(f"- {markdown_text(line)}" for line in reviewed(report))]
    lines += [] if several else _silver_lines(report, task, "##")
    if report.get("choices"):
        lines += ["", "## How things were chosen", ""]
        lines += [f"- **{markdown_text(name)}**: {markdown_text(why)}" for name, why in report["choices"].items()]
    if several:
        for name, seen in question_reports(report).items():
            lines += _question_lines(name, seen, figures.get(name) or [], rows.get(name) or [], task.parts[name])
        lines += _figure_lines(figures.get("") or [], "##")
    else:
        lines += _class_lines(report, task, "##")
        lines += _figure_lines(figures.get("") or [], "##")
        lines += _examples(report, rows.get("") or [], task, "##")
    lines += ["## Prompt", "", *(f"    {line}" for line in shown_prompt(task).splitlines()), ""]
    return "\n".join(lines)


def _question_lines(
    name: str, report: Mapping, figures: list[tuple[str, str]], rows: list[dict], task: TaskSpec
) -> list[str]:
    """The section of one of several questions."""
    lines = ["", f"## {markdown_text(name)} ({task.question.kind})", ""]
    lines += _teacher_lines(report, task) if report["teacher"] else []
    lines += _student_compared(report) if report["student"] else []
    lines += _prevalence_lines(report, "###")
    lines += _found_lines(question_sentences(report), "###")
    lines += _silver_lines(report, task, "###")
    lines += _class_lines(report, task, "###")
    lines += _figure_lines(figures, "###")
    return lines + _examples(report, rows, task, "###")


def _found_lines(found: list[str], head: str) -> list[str]:
    if not found:
        return []
    return ["", f"{head} What was found", "", *(f"- {markdown_text(sentence)}" for sentence in found)]


def _silver_lines(report: Mapping, task: TaskSpec, head: str) -> list[str]:
    if not report["student"] or not report["student"]["train"]["selection"]:
        return []
    lines = ["", f"{head} From annotated to silver", ""]
    lines += [
        f"| rule | rows left | {' | '.join(map(markdown_text, task.labels))} |",
        "|---|---|" + "---|" * task.num_labels,
    ]
    return lines + [
        f"| {markdown_text(count['rule'])} | {count['n']:,} | "
        + " | ".join(f"{count['per_label'].get(name, 0):,}" for name in task.labels)
        + " |"
        for count in report["student"]["train"]["selection"]
    ]


def _class_lines(report: Mapping, task: TaskSpec, head: str) -> list[str]:
    """Figures of each label, and those that are in no table."""
    lines: list[str] = []
    kind = kind_of(task)
    for part in ("teacher", "student"):
        if not is_measured(report[part]):
            continue
        if "per_class" in report[part]:
            lines += ["", f"{head} {part.capitalize()} by class", ""]
            lines += ["| class | precision | recall | F1 | gold rows |", "|---|---|---|---|---|"]
            lines += [
                f"| {markdown_text(name)} | {between(q, 'precision')} | {between(q, 'recall')} | {q['f1']:.3f} "
                f"| {q['support']:,} |"
                for name, q in report[part]["per_class"].items()
            ]
        else:
            lines += ["", f"{head} {part.capitalize()} against people"]
        lines += ["", more_figures(kind, report[part])]
    return lines


def _figure_lines(figures: list[tuple[str, str]], head: str) -> list[str]:
    return ["", f"{head} Figures", "", *(f"![{alt}](figures/{name})\n" for name, alt in figures)] if figures else []


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


def _prevalence_lines(report: Mapping, head: str = "##") -> list[str]:
    prevalence, mean = report.get("prevalence"), report.get("mean")
    if not prevalence:
        return []
    lines = ["", f"{head} How common each class is in the pool", ""]
    lines += ["If the held-out texts are a random sample of it.", ""]
    lines += [f"{mean_sentence(mean)}", ""] if mean else []
    lines += ["| class | share (95 % interval) | as the student counts |", "|---|---|---|"]
    return lines + [
        f"| {markdown_text(name)} | {one['share']:.3f} ({one['low']:.2f} to {one['high']:.2f}) | {one['counted']:.3f} |"
        for name, one in prevalence.items()
    ]


def mean_sentence(mean: Mapping) -> str:
    """The mean of a scale over the pool, in a sentence."""
    return (
        f"The mean over the pool is {mean['value']:.3f} ({mean['low']:.3f} to {mean['high']:.3f}); the student's own is "
        f"{mean['counted']:.3f}."
    )


def _student_lines(report: Mapping) -> list[str]:
    teacher, lines = report["teacher"], list[str]()
    train = report["student"]["train"]
    lines.append(
        f"- student: {markdown_text(Path(train['student']).name)}, {train['n_silver']:,} silver and {train['n_gold']:,} gold "
        f"labels, seed {train['seed']}, {train['seconds']:.0f} s of training"
    )
    lines += _student_compared(report)
    if teacher and teacher["texts_per_second"] and report["student"].get("texts_per_second"):
        ratio = report["student"]["texts_per_second"] / teacher["texts_per_second"]
        lines.append(f"- the student labels {ratio:.1f} times as many texts a second as the teacher, on this machine")
    return lines


def _student_compared(report: Mapping) -> list[str]:
    """The student beside others, and beside itself with other seeds."""
    lines = [f"- {markdown_text(sentence)}" for sentence in worth_told(report) if "questions" not in report]
    if "seeds" in report:
        seeds = report["seeds"]
        main = next((name for name in MAIN.values() if name in seeds), None)
        lines.append(f"- over {len(seeds['seeds'])} seeds {_spread(seeds, main)}")
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
    return lines


def _spread(seeds: Mapping, main: str | None) -> str:
    if main is None:
        return "its figure has no mean: some of them has no value"
    form, found = ".1%" if main == "accuracy" else ".3f", seeds[main]
    mean, low, high = (format(found[end], form) for end in ("mean", "low", "high"))
    name = {"accuracy": "the accuracy", "micro_f1": "micro-F1", "spearman": "Spearman"}[main]
    return f"{name} is {mean} on average, 95 % interval {low} to {high}"


def _teacher_lines(report: Mapping, task: TaskSpec) -> list[str]:
    teacher = report["teacher"]
    if "coverage" not in teacher:  # what is of each question stands there
        return [
            f"- annotated by the teacher: {report['n_annotated']:,} texts ({teacher['n_failed']:,} failed, "
            f"{teacher['n_truncated']:,} cut to fit), {len(task.parts)} questions each"
        ]
    lines = [
        f"- annotated by the teacher: {report['n_annotated']:,} texts ({teacher['n_ok']:,} ok, "
        f"{teacher['n_abstained']:,} abstained, {teacher['n_failed']:,} failed, {teacher['n_truncated']:,} cut to fit); "
        f"coverage {teacher['coverage']:.1%}",
    ]
    lines += [f"  - {markdown_text(reason)}: {count:,}" for reason, count in teacher["reasons"].items()]
    if teacher["mode"] == "jury" and "jury" in teacher:
        lines += ["", "## The jury", "", f"By {teacher['jury']['method']}; {teacher['jury']['n_ties']:,} ties.", ""]
        lines += [
            "| member | usable | accuracy against gold | agreement with the jury | believed |",
            "|---|---|---|---|---|",
        ]
        for name, member in teacher["members"].items():
            quality, agreement = member.get("quality") or {}, teacher["jury"]["agreement"][name]
            right = quality.get(RIGHT[task.question.kind])
            cells = [right, agreement, teacher["jury"]["believed"].get(name)]
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


def _examples(report: Mapping, rows: list[dict], task: TaskSpec, head: str) -> list[str]:
    counts = report["disagreements"]
    if not rows:
        return []
    lines = ["", f"{head} Where they disagree", ""]
    lines.append(
        f"Of the {report['n_annotated']:,} annotated texts: teacher and gold differ on {counts['teacher_gold']:,}, student "
        f"and gold on {counts['student_gold']:,}, teacher and student on {counts['teacher_student']:,}. The student "
        f"learnt from the teacher's labels of these texts. Shown: {kind_of(task).shown}."
    )
    lines += ["", "| teacher | student | gold | confidence | text |", "|---|---|---|---|---|"]
    for row in rows:
        names = [markdown_text(answer_words(task.question, row[k])) for k in ("teacher", "student", "gold")]
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
