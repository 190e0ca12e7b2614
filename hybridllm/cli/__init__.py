"""The command line: ``hybridllm chat``, ``doctor``, ``compile``, ``models``, ``bench`` and ``policy``.

Everything heavy is imported by the command that needs it, so that ``--help`` and ``--version`` answer at once.
"""
