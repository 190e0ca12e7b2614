"""The proof that nothing private leaves: see ``machine.py``. ``python -m tests.prove --cases 100000`` is the long run."""
