"""What can be known about a thing: one attribute, and the ways to print it, to ask for it and to answer.

In the wordings `{e}` is the thing as the speaker names it, `{be}`/`{do}` agree with it in number, `{v}` is the value as it
stands in a sentence. A clause is the indirect question ("where the café is"): it follows "Could you tell me" in a
question and "I don't know" in an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.phrasings import Phrasings, phrasings


@dataclass(frozen=True)
class Attribute:
    """One attribute with its wordings.

    Attributes:
        kind: values of the same kind can be mixed up, so an answer may hold only the right one.
        labels: names for a table column or a key.
        asks: direct questions.
        clauses: indirect questions.
        follows: questions that lean on the thing named just before.
        answers: full-sentence answers.
        prose: sentences that state the fact in a sheet.
        inline: how the value is printed after the thing's name in a list.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    asks: Phrasings
    clauses: Phrasings
    follows: Phrasings
    answers: tuple[str, ...]
    prose: Phrasings
    inline: tuple[str, ...] = ("{v}",)


def attribute(
    name: str,
    kind: str,
    labels: str,
    asks: str,
    clauses: str,
    follows: str,
    answers: str,
    prose: str,
    inline: str = "{v}",
) -> Attribute:
    """Parses the parts of an attribute: `|` between labels, answers and inline forms, a line for each wording."""
    return Attribute(
        name,
        kind,
        tuple(part.strip() for part in labels.split("|")),
        phrasings(asks),
        phrasings(clauses),
        phrasings(follows),
        tuple(part.strip() for part in answers.split("|")),
        phrasings(prose),
        tuple(part.strip() for part in inline.split("|")),
    )
