"""A demo of a student: type a text, see its probabilities beside what its teacher said of texts like it."""

import json
from pathlib import Path

import gradio as gr
from transformers import pipeline

FACTS = json.loads((Path(__file__).parent / "facts.json").read_text(encoding="utf-8"))
STORED = {example["text"]: example["teacher"] for example in FACTS["examples"]}
classify = pipeline("text-classification", model=FACTS["model"], truncation=True, top_k=None, trust_remote_code=False)


def label(text: str) -> tuple[dict[str, float], dict[str, float] | None]:
    """The student's probability of each label, and the teacher's where it was asked about this very text."""
    if not text.strip():
        return {}, None
    return {answer["label"]: answer["score"] for answer in classify([text])[0]}, STORED.get(text)


with gr.Blocks(title=FACTS["title"]) as demo:
    gr.Markdown(FACTS["introduction"])
    with gr.Row():
        text = gr.Textbox(label="Text", lines=8, max_length=20_000)
        with gr.Column():
            student = gr.Label(label="Student, now")
            teacher = gr.Label(label="Teacher, as stored (for the examples)")
    gr.Button("Label", variant="primary").click(label, text, [student, teacher])
    gr.Examples(
        [[example["text"]] for example in FACTS["examples"]], text, [student, teacher], label, run_on_click=True
    )
    gr.Markdown(FACTS["figures"])

if __name__ == "__main__":
    demo.launch()
