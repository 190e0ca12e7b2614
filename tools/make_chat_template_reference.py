"""Write ``tests/local_runtime/fixtures/chat_templates.json``: what the real ``transformers`` renders for the tests' chat templates.

Needs ``transformers``; ``make parity`` compares the file with what this writes now.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.local_runtime.chat_templates import FIXTURE, cases


def rendered() -> dict[str, str | None]:
    """What each case comes to; None where the template refuses it."""
    from jinja2 import TemplateError
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    texts: dict[str, str | None] = {}
    for case in cases():
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **case.shape.tokens)
        tokenizer.chat_template = case.shape.source
        try:
            texts[case.name] = tokenizer.apply_chat_template(
                case.as_their_users_write_it(),
                tools=case.tools or None,
                add_generation_prompt=case.add_generation_prompt,
                tokenize=False,
                **case.variables,
            )
        except (TemplateError, TypeError):
            texts[case.name] = None
    return texts


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FIXTURE)
    output: Path = parser.parse_args().output
    output.write_text(json.dumps(rendered(), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
