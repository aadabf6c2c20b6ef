"""A report of several questions as one of them sees it."""

from __future__ import annotations

from collections.abc import Mapping

_OF_ONE = ("questions", "gate", "choices", "review", "made", "cost", "members")


def question_report(report: Mapping, name: str) -> dict:
    """
    The report of a task of several questions as a report of one of them: what is of the texts, and its own figures.

    Args:
        report (`Mapping`): The content of `report.json`.
        name (`str`): The question.
    """
    return {**{key: value for key, value in report.items() if key not in _OF_ONE}, **report["questions"][name]}


def question_reports(report: Mapping) -> dict[str, Mapping]:
    """The report of each question by its name; of an only one the report itself, by no name."""
    if "questions" not in report:
        return {"": report}
    return {name: question_report(report, name) for name in report["questions"]}
