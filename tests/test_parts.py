"""One of several questions as a task of one question sees it."""

from datasets import Dataset

from hf_llambert import Choice, Scale, TaskSpec
from hf_llambert.tasks.parts import part_columns, part_of, with_parts

TASK = TaskSpec(
    "t", instruction="{text}", questions=(Choice("a", ("x", "y"), "Which?"), Scale("b", ("1", "2"), "How much?"))
)
ROWS = {
    "text": ["one", "two"],
    "label": ["mine", "too"],
    "a": [0, 1],
    "b": [1.0, 1.5],
    "llm_a_label": [0, -1],
    "llm_b_label": [1, 0],
    "llm_b_value": [1.9, 1.1],
    "student_a_label": [1, 1],
}


def test_question_sees_its_columns_without_its_name_and_not_the_others():
    part = part_of(Dataset.from_dict(ROWS), TASK, "b")
    assert part.column_names == ["text", "label", "llm_label", "llm_value"]
    assert part["label"][:] == [1.0, 1.5]  # its gold, not the user's column of that name
    assert part_of(Dataset.from_dict(ROWS), TASK, "a")["student_label"][:] == [1, 1]


def test_task_of_one_question_sees_all():
    assert part_columns(ROWS, TASK.parts["a"], "") == {name: name for name in ROWS}


def test_changed_parts_are_put_back_where_they_were():
    data = Dataset.from_dict(ROWS)
    part = part_of(data, TASK, "a")
    part = part.remove_columns("llm_label").add_column("llm_label", [1, 1])
    found = with_parts(data, TASK, {"a": part})
    assert found.column_names == data.column_names
    assert found.to_dict() == {**ROWS, "llm_a_label": [1, 1]}
