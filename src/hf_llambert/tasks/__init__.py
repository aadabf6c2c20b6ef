"""What is asked and what an answer means: questions and labels, prompts, answers, texts."""
