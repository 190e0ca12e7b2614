"""What a model's text says besides the answer: the tools that it calls, and what it thinks before."""
