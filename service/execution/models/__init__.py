"""From files to a model: config, weights, tokenizer, chat template, text of answers. Start with `loading.py`."""
