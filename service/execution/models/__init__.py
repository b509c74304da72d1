"""From files to a model: weights, shape, tokenizer, chat template, and text of answers."""
