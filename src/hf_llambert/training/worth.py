"""What an encoder is worth beyond counting words: the figures of both on the same texts, and what follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hf_llambert.headline import MAIN, NAMES, RIGHT, shown
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec

_DISTIL = "distil it (hf-llambert distill {run} --to linear)"
_WORSE = "train it better, or label by counting words (hf-llambert label --student {run}/student/baseline)"


def beside_words(results: Mapping, task: TaskSpec, name: str = "", run: object = "RUN") -> dict | None:
    """
    What counting words reaches at a question, beside the encoder, from what was noted of the encoder's training.

    Args:
        results (`Mapping`): What [`train_student`] returned.
        task (`TaskSpec`): Its task.
        name (`str`, defaults to none): The question, by the names of [`TaskSpec.parts`].
        run (`object`, defaults to `"RUN"`): The run's folder, as the advised command names it.

    Returns:
        `dict`: `what` it is; its figures, as `eval` of the encoder has them; `unit`, `features` and `seconds` of fitting;
        `difference`, how much more the encoder gets right; `times_as_fast`; `sentence`, all of it in words; and `advice`, what to
        do where the encoder is not certainly better. `None` where the two were not compared.
    """
    linear, evaluated = results.get("linear"), results.get("eval")
    if not linear or not evaluated:
        return None
    differences = linear["difference"] if name else {"": linear["difference"]}
    quality, words = (one.get(name) if name else one for one in (evaluated, linear["eval"]))
    if not quality or not words or name not in differences:
        return None
    speeds = [one.get("texts_per_second") for one in (quality, words)]
    times = speeds[1] / speeds[0] if all(speeds) else None
    question = task.parts[name].question
    given = _figures(MAIN[question.kind], quality, words, times) + f" on the same {differences[name]['n']:,} texts"
    return {
        "what": f"counting words (TF-IDF of {linear['unit']}) on the same labels",
        **words,
        **{key: linear[key] for key in ("unit", "features", "seconds")},
        "difference": dict(differences[name]),
        "times_as_fast": times,
        "sentence": f"{given}: {_follows(question, differences[name])}",
        "advice": _advice(list(differences.values())).format(run=run),
    }


def worth_lines(results: Mapping, task: TaskSpec, run: object = "RUN") -> Iterator[str]:
    """The sentence of [`beside_words`] about each question, of several with its name; none where nothing was compared."""
    for name in task.parts:
        found = beside_words(results, task, name, run)
        if found is not None:
            yield ": ".join(part for part in (name, found["sentence"], found["advice"]) if part)


def _figures(main: str, quality: Mapping, words: Mapping, times: float | None) -> str:
    """The main figure and the speed of both."""
    ours, theirs = (
        shown(main, one.get(main)) + f" by {who}" + (f" at {_rough(one['texts_per_second'])} texts/s" if times else "")
        for who, one in (("the encoder", quality), ("counting words", words))
    )
    return f"{NAMES[main]} {ours}, {theirs}" + (f" ({_rough(times)} times as fast)" if times else "")


def _rough(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def _advice(differences: Sequence[Mapping]) -> str:
    """What to do with one student that answers all questions: nothing, if it is worth its time at one of them."""
    if any(one["low"] > 0 for one in differences):
        return ""
    return _WORSE if any(one["high"] < 0 for one in differences) else _DISTIL  # nobody should learn from the worse


def _follows(question: Question, found: Mapping) -> str:
    """Whether the encoder is worth its time, by the interval of the difference on the same texts."""
    of = "" if RIGHT[question.kind] == MAIN[question.kind] else f"; {question.agrees}"
    difference, low, high = (100 * found[name] for name in ("difference", "low", "high"))
    if low > 0:
        return f"the encoder is worth {difference:.1f} points ({low:.1f} to {high:.1f}{of})"
    sure = "not certainly" if high > 0 else "not"
    between = f"{difference:+.1f} points, {low:+.1f} to {high:+.1f}{of}"
    return f"the encoder is {sure} better than counting words here ({between})"
