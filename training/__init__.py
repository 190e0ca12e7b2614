"""Makes the bundled model: generates its dialogues, trains its tokenizer and weights, exports and measures it."""
