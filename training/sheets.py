"""Draws whole fact sheets and prints them in many formats."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from training import attributes as about
from training import nouns, things
from training.facts import Fact, Section, Thing, say, upper_first
from training.phrasings import phrasings
from training.schedules import Schedule, draw_schedule

if TYPE_CHECKING:
    import random

    from training.lexicon import Draw

PREAMBLES = phrasings("""
(You are|Act as|Be|Imagine you are|You work as|Play) the (digital guide|assistant|helper|information desk|chatbot|kiosk|concierge|voice|front desk) (of|at|for|in) {venue}. (Use only|Answer from|Rely on|Stick to|Here are|Know|These are) (these facts|the facts below|the data below|this information|the following facts|these data)(.|:| only.| and nothing else.)
(Information|Facts|Data|Notes|Visitor information|Details|Guide|Info sheet|All you know)( about | for | on | of |, |: ){venue}(|:|.)
(Help|Assist|Serve|Inform|Answer) (the visitors|visitors|guests|people|customers) (of|at) {venue}(.|. Be brief.|. Use the facts below.|:)
{Venue}(|:| - facts| – visitor information|, all facts)
You are the kiosk assistant of {venue}.
You are the assistant of {venue}. Answer visitors' questions from the facts below.
You are a helpful assistant at {venue}. Use only this information:
You are the information kiosk at {venue}. Answer briefly.
You help visitors of {venue}. If the facts don't say, say that you don't know.
Answer the questions of visitors to {venue} with the following facts.
Information about {venue}:
{venue}
# {venue}
Welcome to {venue}!
Fact sheet of {venue}
You are a friendly assistant for guests of {venue}. Facts:
This is the information terminal of {venue}.
You answer questions at {venue}. Keep it short.
Here is what you know about {venue}:
Context: {venue}.
You are a kiosk. Facts about {venue}:
{Venue} – information for visitors
You work at {venue}.
* You are the digital guide at {venue}. Rely on the data below and on nothing else.
* Visitor information, {venue}
* Act as the front-desk helper of {venue}. What follows is all you know.
* Data sheet for {venue}.
""")
POSTAMBLES = phrasings("""
(Please |)(never|do not|don't) (guess|invent anything|make things up|speculate).
(Keep|Stick|Hold) to (the facts|the facts above|this sheet|this information).
(Answer|Reply) (briefly|shortly|politely|in a friendly way|with one sentence)(.|, please.)
If something is not in this sheet, say that you don't know.
Answer briefly and politely.
Only use these facts.
Be friendly.
Don't make anything up.
Answer in one sentence.
* Never guess.
* Keep to the facts above.
""")
TITLES = phrasings("""
{t}:
{t}:
({t})
*** {t} ***
+++ {t} +++
~~ {t} ~~
>> {t}
>> {t} <<
:: {t} ::
{t} -
__{t}__
## {t}
# {t}
### {t}
**{t}**
{t}
-- {t} --
* [{t}]
* === {t} ===
* <{t}>
""")
TRAIN_BULLETS, HELD_BULLETS = (
    (
        "- ",
        "- ",
        "* ",
        "• ",
        "",
        "",
        "– ",
        "  - ",
        "1. ",
        "· ",
        "> ",
        "# ",
        "~ ",
        ">> ",
        "x ",
    ),
    ("+ ", "→ ", "o ", "- ", ""),
)
TRAIN_COLONS, HELD_COLONS = (
    (
        ": ",
        ": ",
        ": ",
        " - ",
        " – ",
        " = ",
        " — ",
        ":",
        " .. ",
        " ... ",
        " => ",
        " : ",
        " ~ ",
        " / ",
        "; ",
        ", ",
        "\t",
        " -- ",
        " → ",
    ),
    (" .... ", " -> ", ": ", " | "),
)
MARKS = "-–—=~/.:;,>*+_#^·•|!"
FORMATS = {
    "line": 30, "nested": 14, "table": 14, "prose": 30, "flat": 12, "csv": 4, "json": 3, "joined": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """Whether something is allowed. `condition` is empty without one."""

    subject: str
    asks: tuple[str, ...]
    allowed: bool
    condition: str

    @property
    def sentence(self) -> str:
        """The rule as a sentence."""
        verb = "is" if self.subject in nouns.SINGULAR_POLICIES else "are"
        tail = f" {self.condition}" if self.condition else ""
        return f"{self.subject} {verb} {'allowed' if self.allowed else 'not allowed'}{tail}"


@dataclass
class Sheet:
    """A fact sheet: its text and everything that it says."""

    venue: Thing
    sections: list[Section]
    schedules: list[Schedule]
    policies: list[Policy]
    today: int | None = None
    text: str = ""
    preamble: str = ""
    facts: list[Fact] = field(default_factory=list)

    def values(self, kind: str) -> set[str]:
        """Every printed value of one kind, for the check that an answer doesn't mix them up."""
        found = {text for fact in self.facts if fact.attribute.kind == kind for text in fact.must}
        if kind == "time":
            found |= {text for schedule in self.schedules for text in schedule.strings()}
        return found


def draw_sheet(draw: Draw, *, size: int | None = None) -> Sheet:
    """A sheet with about `size` facts (drawn if None), in one to six sections."""
    rng = draw.rng
    size = size or rng.choices((3, 6, 10, 16, 24, 36, 60), (10, 22, 28, 22, 12, 6, 2))[0]
    venue = things.venue_name(draw)
    sections: list[Section] = []
    sorts = list(things.WEIGHTS)
    weights = list(things.WEIGHTS.values())
    left = size
    seen: set[str] = set()
    while left > 0 and sorts:
        index = rng.choices(range(len(sorts)), weights)[0]
        sort = sorts.pop(index)
        weights.pop(index)
        section = things.MAKERS[sort](draw, min(left, rng.randint(2, 7) if size > 5 else rng.randint(1, 4)))
        section = _without_repeats(section, seen)
        if not section.records:
            continue
        sections.append(section)
        left -= sum(len(record) for record in section.records)
    schedules = [draw_schedule(draw, None, venue)] if rng.random() < 0.75 else []
    facility_things = [
        record[0].thing for section in sections if section.sort == "facility" for record in section.records
    ]
    told = {
        record[0].thing
        for section in sections
        for record in section.records
        if any(f.attribute is about.OPEN for f in record)
    }
    for thing in facility_things:
        if thing not in told and rng.random() < 0.2:
            schedules.append(draw_schedule(draw, thing))
    policies = []
    if rng.random() < 0.3:
        for forms in rng.sample(nouns.POLICIES, rng.randint(1, 4)):
            allowed = rng.random() < 0.55
            condition = rng.choice(nouns.CONDITIONS) if allowed and rng.random() < 0.4 else ""
            policies.append(Policy(forms[0], forms[1:], allowed, condition))
    sheet = Sheet(venue, sections, schedules, policies)
    sheet.facts = [fact for section in sections for record in section.records for fact in record]
    sheet.text = _print(draw, sheet)
    return sheet


def _without_repeats(section: Section, seen: set[str]) -> Section:
    """Leaves out things whose name, or a synonym of it, another section has already."""
    records = []
    for record in section.records:
        names = {name.lower() for name in record[0].thing.names}
        if section.sort == "topic":
            names |= {label.lower() for label in record[0].attribute.labels}
        if not names & seen:
            records.append(record)
        seen |= names
    return replace(section, records=tuple(records))


def made_up_mark(rng: random.Random, lead: str = " ") -> str:
    """A separator that nobody has thought of, such as " =: ", and none that is kept for the evaluation."""
    while True:
        mark = lead + "".join(rng.choices(MARKS, k=rng.choice((1, 1, 2, 2, 3)))) + " "
        if mark not in HELD_COLONS and mark not in HELD_BULLETS:
            return mark


def _print(draw: Draw, sheet: Sheet) -> str:
    rng = draw.rng
    blocks = [_section(draw, section) for section in sheet.sections]
    blocks += [schedule.text for schedule in sheet.schedules]
    if sheet.policies:
        blocks.append(_policies(draw, sheet.policies))
    if rng.random() < 0.15:
        blocks.append(rng.choice(nouns.FILLERS))
    rng.shuffle(blocks)
    if rng.random() < 0.15:
        blocks.insert(0, rng.choice(nouns.FILLERS))
    gap = rng.choice(("\n", "\n", "\n\n", "\n\n", " "))
    if gap == " " and any("\n" in block for block in blocks):
        gap = "\n"
    body = gap.join(blocks)
    if rng.random() < 0.06:
        body = f"{rng.choice(('Today is', 'Today:', 'It is'))} {_today(draw, sheet)}.{gap}{body}"
    if rng.random() < 0.9:
        sheet.preamble = draw.say(PREAMBLES).format(venue=sheet.venue.said, Venue=upper_first(sheet.venue.said))
        body = sheet.preamble + rng.choice(("\n", "\n\n", " " if gap == " " else "\n")) + body
        if rng.random() < 0.15:
            body += rng.choice(("\n", "\n\n")) + draw.say(POSTAMBLES)
    else:
        sheet.preamble = ""
    return body


def _today(draw: Draw, sheet: Sheet) -> str:
    sheet.today = draw.rng.randrange(7)
    return ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[sheet.today]


def _policies(draw: Draw, policies: list[Policy]) -> str:
    rng = draw.rng
    lines = []
    short = rng.random() < 0.4
    bullet = rng.choice(("- ", "", "* ")) if rng.random() < 0.5 else ""
    for policy in policies:
        if short:
            value = ("allowed" if policy.allowed else "not allowed") + (
                f" {policy.condition}" if policy.condition else ""
            )
            if draw.split == "train" and rng.random() < 0.3 and not policy.condition:
                value = "yes" if policy.allowed else "no"
            lines.append(f"{bullet}{upper_first(policy.subject)}: {value}")
        else:
            lines.append(f"{bullet}{upper_first(policy.sentence)}.")
    return (" " if not short and not bullet else "\n").join(lines)


def _section(draw: Draw, section: Section) -> str:
    rng = draw.rng
    held = draw.split == "held" and rng.random() < 0.5
    kind = rng.choices(tuple(FORMATS), tuple(FORMATS.values()))[0]
    single = all(len(record) == 1 for record in section.records)
    if section.sort in ("key", "topic") and kind in ("nested", "flat", "table", "csv"):
        kind = "line"
    if kind == "prose":
        return _prose(draw, section)
    if kind == "joined" and not single:
        kind = "line"
    if kind == "json":
        return _json(section)
    bullet = rng.choice(HELD_BULLETS if held else TRAIN_BULLETS)
    colon = rng.choice(HELD_COLONS if held else TRAIN_COLONS)
    if draw.split == "train" and rng.random() < 0.2:
        colon = made_up_mark(rng)
    if draw.split == "train" and rng.random() < 0.1:
        bullet = made_up_mark(rng, lead="")
    bold = kind in ("line", "flat") and rng.random() < 0.12
    titled = section.sort not in ("key", "topic") or rng.random() < 0.4
    title = draw.say(TITLES).format(t=rng.choice(section.titles)) + "\n" if titled else ""
    if section.sort == "key" and rng.random() < 0.3:
        return title + "\n".join(f"{bullet}{fact.thing.names[0]}{colon}{fact.printed}" for (fact,) in section.records)
    if kind == "table":
        return title + _table(draw, section, held=held)
    if kind == "csv":
        columns, rows = _grid(draw, section)
        separator = rng.choice((", ", "; ", "\t"))
        if draw.split == "train" and rng.random() < 0.4:
            separator = made_up_mark(rng)
        return title + "\n".join(separator.join(cells) for cells in ([columns] if rng.random() < 0.7 else []) + rows)
    if kind == "joined":
        mark = rng.choice((", ", "; ", " | ", ", "))
        head = f"{rng.choice(section.titles)}: " if titled else ""
        return head + mark.join(
            f"{fact.thing.title}{rng.choice((': ', ' '))}{fact.printed}" for (fact,) in section.records
        )
    lines = []
    inline = {fact.attribute.name: rng.choice(fact.attribute.inline) for record in section.records for fact in record}
    labels = {fact.attribute.name: rng.choice(fact.attribute.labels) for record in section.records for fact in record}
    mark = rng.choice((", ", ", ", "; ", " | ", " / ", " – "))
    role_first = section.sort == "contact" or (section.sort in ("person", "doctor") and rng.random() < 0.45)
    brackets = rng.random() < 0.12
    for number, record in enumerate(section.records, start=1):
        start = f"{number}. " if bullet == "1. " else bullet
        name, record_facts = record[0].thing.title, list(record)
        if role_first and record[0].attribute in (about.ROLE, about.FIELD):
            name = upper_first(record[0].printed)
            record_facts = [replace(record[0], printed=record[0].thing.names[0]), *record[1:]]
            labels[record[0].attribute.name], inline[record[0].attribute.name] = "Name", "{v}"
        if bold:
            name = f"**{name}**"
        if kind == "nested":
            lines.append(f"{start}{name}{':' if rng.random() < 0.7 else ''}")
            lines += [
                f"  {bullet if bullet != '1. ' else '- '}{labels[f.attribute.name]}{colon}{f.printed}"
                for f in record_facts
            ]
        elif kind == "flat":
            lines += [f"{start}{name} {labels[f.attribute.name].lower()}{colon}{f.printed}" for f in record_facts]
        else:
            parts = [inline[f.attribute.name].format(v=f.printed) for f in record_facts]
            if brackets:
                lines.append(f"{start}{name} ({mark.join(parts)})")
            else:
                lines.append(f"{start}{name}{colon}{mark.join(parts)}")
    return title + "\n".join(lines)


def _grid(draw: Draw, section: Section) -> tuple[list[str], list[list[str]]]:
    """Column names and rows; what is not known is empty or a dash."""
    rng = draw.rng
    attributes = list(dict.fromkeys(fact.attribute.name for record in section.records for fact in record))
    labels = {fact.attribute.name: rng.choice(fact.attribute.labels) for record in section.records for fact in record}
    blank = rng.choice(("-", "–", "?", ""))
    rows = []
    for record in section.records:
        known = {fact.attribute.name: fact.printed for fact in record}
        rows.append([record[0].thing.title, *(known.get(name, blank) for name in attributes)])
    return [
        rng.choice(("Name", "What", "Item", "Title", section.titles[0])),
        *(labels[name] for name in attributes),
    ], rows


def _table(draw: Draw, section: Section, *, held: bool) -> str:
    columns, rows = _grid(draw, section)
    if held:
        return "\n".join(" ¦ ".join(cells) for cells in [columns, *rows])
    lines = [f"| {' | '.join(cells)} |" for cells in [columns, *rows]]
    if draw.rng.random() < 0.8:
        lines.insert(1, "|" + "---|" * len(columns))
    return "\n".join(lines)


def _json(section: Section) -> str:
    if section.sort in ("key", "topic"):
        return json.dumps({fact.thing.names[0]: fact.printed for (fact,) in section.records}, ensure_ascii=False)
    entries = [
        {"name": record[0].thing.names[0], **{fact.attribute.name: fact.printed for fact in record}}
        for record in section.records
    ]
    return json.dumps({section.titles[0].lower(): entries}, ensure_ascii=False)


def _prose(draw: Draw, section: Section) -> str:
    rng = draw.rng
    sentences: list[str] = []
    for record in section.records:
        for index, fact in enumerate(record):
            wordings = fact.attribute.prose
            text = say(draw.say(wordings), fact.thing, fact.phrase)
            if (
                index > 0
                and fact.thing.article
                and text.startswith(upper_first(fact.thing.said))
                and rng.random() < 0.4
            ):
                rest = text[len(fact.thing.said) :]
                if rng.random() < 0.5:
                    sentences[-1] = sentences[-1].removesuffix(".") + " and" + rest
                    continue
                text = ("They" if fact.thing.plural else "It") + rest
            sentences.append(upper_first(text))
    return (" " if rng.random() < 0.75 else "\n").join(sentences)
