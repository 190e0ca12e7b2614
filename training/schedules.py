"""Opening hours: drawing them, printing them, asking for them and answering by weekday."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.facts import Thing, end_once, upper_first
from training.phrasings import phrasings
from training.wordlists import DAYS

if TYPE_CHECKING:
    from training.lexicon import Draw

SHORT_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SPLITS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, 6),), ((0, 6),), ((0, 4), (5, 6)), ((0, 4), (5, 5), (6, 6)), ((0, 4), (5, 5), (6, 6)), ((0, 4),), ((0, 4), (5, 5)),
    ((0, 0), (1, 6)), ((0, 0), (1, 6)), ((0, 0), (1, 4), (5, 6)), ((1, 6),), ((1, 5),), ((0, 3), (4, 4), (5, 6)), ((0, 3), (4, 4)),
    ((0, 2), (3, 3), (4, 5), (6, 6)), ((0, 5),), ((0, 5), (6, 6)), ((1, 4), (5, 6)), ((2, 6),), ((0, 1), (2, 4), (5, 6)),
    tuple((day, day) for day in range(7)), tuple((day, day) for day in range(5)), ((3, 6),), ((5, 6),), ((0, 0), (2, 2), (4, 4)),
)  # fmt: skip

ASK_DAY = phrasings("""
(When|At what time|At what times|From when|Until when|Up to what time|How long|During which hours|From what time|Till when) {are} {e} open on {d}(|s)(?|?| please)
(If I come|If we come|When I come|I'm coming|I want to come|I'd like to visit|We are visiting) on (|a ){d}, (when|until when|from when|at what time|how long) {are} {e} open?
{are} {e} (open|closed) on (|a ){d}(|s)?
(hours|opening hours|opening times|times) (on|for) {d}(|s)(|?)
{d} (hours|opening hours|opening times|times)(|?)
(When|At what time|What time) do {s} (open|close|shut) on (|a ){d}(|s)?
(Can|May|Could) (I|we) (come|visit|drop by|come in) on (|a ){d}(|?)
(When|At what times|During which hours|Until when) can (I|we) (come|visit|come in) on {d}(|s)?
When {are} {e} open on {d}?
What are the opening hours on {d}?
What time do {s} open on {d}?
When do {s} open on {d}?
How long {are} {e} open on {d}?
Until when {are} {e} open on {d}?
When do {s} close on {d}?
{d} opening hours?
From when to when {are} {e} open on {d}?
What are the hours on {d}s?
On {d}, when {are} {e} open?
{are} {e} open on {d}?
{are} {e} open {d}s?
Can I come on {d}?
{are} {e} closed on {d}?
I'm coming on {d}. When {are} {e} open?
Opening times on {d}?
hours on {d}
At what times {are} {e} open on {d}?
* During which hours can I visit on {d}?
* If I come on a {d}, when {are} {e} open?
(At what hours|Between which hours|At which times|In what hours) (can|may|could|should) (I|we|visitors) (come|visit|drop by|turn up) on (|a ){d}(| please)?
* Up to what time {are} {e} open on {d}?
""")
ASK_WEEK = phrasings("""
(When|At what times|At what time|From when|Until when|During which hours|On which days|How long|What days) {are} {e} open(| please| normally| usually| in general)?
(What are|Tell me|Give me|Could I have|I need|Do you have|Show me|I'd like to know) (the|your) (opening hours|opening times|hours|times|business hours)(|?| please)
(When|At what time|What time) do {s} (open|close|shut)(| normally| usually| each day)?
(opening hours|opening times|hours|business hours|open|times)(|?| please)
(When|During which hours|On which days) can (I|we|people|visitors) (visit|come|come in|drop by)(| please)?
When {are} {e} open?
What are the opening hours?
When do {s} open?
What are your hours?
Opening hours?
When can I visit?
What time do {s} open?
When do {s} close?
How long {are} {e} open?
On which days {are} {e} open?
opening times
Tell me the opening hours.
At what times {are} {e} open?
* During which hours can I visit?
* Could I have the opening times?
""")
FOLLOW_DAY = phrasings("""
(And|What about|How about|And what about|And what of|And how about|And if I come) (on |on a |){d}(|s)?
Is it the same on (|a ){d}(|s)?
{d}(|s| too| as well| then)?
(When|And when|Until when) (on|for) {d}(|s)?
And on {d}?
What about {d}?
How about {d}?
And {d}?
on {d}?
And on a {d}?
And {d}s?
Are you open on {d} too?
Also on {d}?
And what of {d}?
(Does the same go|Is that the same|Are the hours the same|Is this so|Does that hold|Is that also true|Are the hours alike) (for|on) (|a ){d}(| too| please)?
(Is it|Is that|Would it be) (different|another time|alike|the same thing|as long) on (|a ){d}(| then)?
* Is it the same on {d}?
* And if I come on {d}?
""")
CLAUSE_DAY = "when {e} {are} open on {d}"
CLAUSE_WEEK = "when {e} {are} open"


@dataclass(frozen=True)
class Hours:
    """The hours of some consecutive days; `opens` and `closes` are None on closed days."""

    first: int
    last: int
    opens: str | None
    closes: str | None
    minutes: tuple[int, int] | None

    def covers(self, day: int) -> bool:
        """Whether the entry speaks of this weekday (0 is Monday)."""
        return self.first <= day <= self.last

    @property
    def days(self) -> str:
        """The days in full words: "Monday to Friday"."""
        if self.first == self.last:
            return DAYS[self.first]
        if (self.first, self.last) == (0, 6):
            return "every day"
        return f"{DAYS[self.first]} {'and' if self.last == self.first + 1 else 'to'} {DAYS[self.last]}"


@dataclass(frozen=True)
class Schedule:
    """When a thing is open. `thing` is None for the house itself ("we", "you")."""

    thing: Thing | None
    entries: tuple[Hours, ...]
    text: str

    def on(self, day: int) -> Hours | None:
        """The entry for a weekday, or None if the sheet doesn't say."""
        return next((entry for entry in self.entries if entry.covers(day)), None)

    @property
    def subject(self) -> str:
        """Whoever is open, in an answer."""
        return "we" if self.thing is None else self.thing.said

    @property
    def are(self) -> str:
        """The verb that agrees with the subject."""
        return "are" if self.thing is None or self.thing.plural else "is"

    def answer_day(self, day: int) -> str:
        """The answer for one weekday that the sheet covers."""
        entry = self.on(day)
        if entry is None:
            raise ValueError("the sheet says nothing of this day")
        if entry.opens is None:
            return f"{upper_first(self.subject)} {self.are} closed on {DAYS[day]}."
        return end_once(
            f"{upper_first(self.subject)} {self.are} open on {DAYS[day]} from {entry.opens} to {entry.closes}."
        )

    def answer_week(self) -> str:
        """All entries in one sentence or two."""
        spoken = [f"{entry.days} from {entry.opens} to {entry.closes}" for entry in self.entries if entry.opens]
        closed = [entry.days for entry in self.entries if not entry.opens]
        text = end_once(f"{upper_first(self.subject)} {self.are} open {join(spoken)}.")
        if closed:
            text += f" {upper_first(self.subject)} {self.are} closed on {join(closed)}."
        return text

    def strings(self) -> set[str]:
        """Every clock time of the schedule, as printed."""
        return {text for entry in self.entries for text in (entry.opens, entry.closes) if text}

    def ask(self, template: str, draw: Draw, venue: Thing, day: int | None = None) -> str:
        """A question about the schedule."""
        rng = draw.rng
        name, verb, short = "you", "are", "you"
        if self.thing is not None:
            name = self.thing.asked(rng)
            verb = "are" if self.thing.plural else "is"
        elif rng.random() < 0.3:
            name, verb = "the " + venue.names[-1] if rng.random() < 0.6 else venue.said, "is"
        if self.thing is not None and "{e}" not in template:
            template = template.replace("{s}", "they").rstrip("?.") + f" for {name}?"
        if name != "you":
            template = template.replace("do {s}", "do {e}" if verb == "are" else "does {e}")
            short = name
        text = template.format(e=name, s=short, are=verb, d=DAYS[day] if day is not None else "")
        return upper_first(text)


def join(parts: list[str]) -> str:
    """Joins with commas and a final "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def draw_schedule(draw: Draw, thing: Thing | None, venue: Thing | None = None) -> Schedule:
    """Opening hours with a random pattern of days, printed in a random way; `venue` is how a sheet may name the house."""
    rng = draw.rng
    entries = []
    pattern = rng.choice(SPLITS)
    for first, last in pattern:
        closed = len(pattern) > 1 and (first == last or first >= 5) and rng.random() < 0.45
        if closed:
            entries.append(Hours(first, last, None, None, None))
            continue
        start = draw.clock(6, 13)
        end = draw.clock(max(14, start // 60 + 2), 23)
        entries.append(Hours(first, last, draw.time(start), draw.time(end), (start, end)))
    if not any(entry.opens for entry in entries):
        start, end = draw.clock(6, 12), draw.clock(14, 23)
        entries[0] = Hours(entries[0].first, entries[0].last, draw.time(start), draw.time(end), (start, end))
    return Schedule(thing, tuple(entries), _print(draw, thing, entries, venue))


def _day_label(draw: Draw, entry: Hours, style: int) -> str:
    rng = draw.rng
    names = SHORT_DAYS if style in (0, 1, 5) else DAYS
    if (entry.first, entry.last) == (0, 6):
        if draw.split == "held":
            return rng.choice(("All week", "7 days a week"))
        return rng.choice(("Daily", "Every day", "daily", "Mon–Sun", "Monday to Sunday"))
    if (entry.first, entry.last) == (0, 4) and style == 4:
        return "Weekdays"
    if (entry.first, entry.last) == (5, 6) and style == 4:
        return rng.choice(("Weekend", "Weekends"))
    if entry.first == entry.last:
        return names[entry.first] + ("s" if style == 3 else "")
    if entry.last == entry.first + 1 and rng.random() < 0.5:
        return f"{names[entry.first]}{rng.choice((' and ', ' & ', ', ', '/', '+'))}{names[entry.last]}"
    joiner = " to " if style == 3 else rng.choice(("–", "-", " - ", " to "))
    return f"{names[entry.first]}{joiner}{names[entry.last]}"


def _span(draw: Draw, entry: Hours) -> str:
    if entry.opens is None:
        return draw.rng.choice(("closed", "closed", "Closed", "CLOSED", "–" if draw.split == "train" else "closed"))
    return f"{entry.opens}{draw.style.range}{entry.closes}"


def _print(draw: Draw, thing: Thing | None, entries: list[Hours], venue: Thing | None) -> str:
    """The schedule as lines or sentences of a sheet."""
    rng = draw.rng
    style = rng.randrange(6)
    subject, are = ("we", "are") if thing is None else (thing.said, "are" if thing.plural else "is")
    if thing is None and venue is not None and rng.random() < 0.3:
        subject, are = (venue.said if rng.random() < 0.6 else "the " + venue.names[-1]), "is"
    if draw.split == "train" and rng.random() < 0.15:
        return _one_sentence(draw, subject, are, entries)
    if rng.random() < 0.35:
        return " ".join(upper_first(end_once(_sentence(draw, subject, are, entry))) for entry in entries)
    title = (
        rng.choice(("Opening hours", "Hours", "Open", "Opening times", "Open hours")) if thing is None else thing.title
    )
    if thing is not None and rng.random() < 0.5:
        title += rng.choice((" hours", " opening hours", " open", " (open)"))
    lines = [(_day_label(draw, entry, style), _span(draw, entry)) for entry in entries]
    if len(lines) == 1 or rng.random() < 0.5:
        joint = rng.choice((", ", "; ", " | ", ", "))
        between = rng.choice((" ", " ", ": "))
        return f"{title}: " + joint.join(f"{days}{between}{span}" for days, span in lines)
    bullet = rng.choice(("- ", "* ", "", "  ", "• "))
    between = rng.choice((": ", ": ", " ", " – "))
    heading = rng.choice(("{}:", "## {}", "**{}**", "{}")).format(title)
    return heading + "\n" + "\n".join(f"{bullet}{upper_first(days)}{between}{span}" for days, span in lines)


def _one_sentence(draw: Draw, subject: str, are: str, entries: list[Hours]) -> str:
    """All opening times in one sentence, closed days in a second one."""
    rng = draw.rng
    on = rng.choice(("", "on ", ""))
    spans = []
    for entry in entries:
        if entry.opens:
            days = _day_label(draw, entry, 3) if rng.random() < 0.5 else entry.days
            bare = days.lower().startswith(("daily", "every", "all", "7"))
            span = rng.choice(
                (f"from {entry.opens} to {entry.closes}", f"{entry.opens}{draw.style.range}{entry.closes}")
            )
            spans.append(f"{'' if bare else on}{days.lower() if bare else days} {span}")
    text = end_once(upper_first(f"{subject} {are} open {join(spans)}."))
    closed = [entry.days for entry in entries if not entry.opens]
    if closed:
        pronoun = "we are" if subject == "we" else "it is" if are == "is" else "they are"
        text += " " + upper_first(f"{pronoun} closed on {join(closed)}.")
    return text


def _sentence(draw: Draw, subject: str, are: str, entry: Hours) -> str:
    rng = draw.rng
    days = entry.days if entry.first == entry.last or rng.random() < 0.5 else _day_label(draw, entry, 3)
    days = days[0].lower() + days[1:] if days.startswith(("Daily", "Every", "All")) else days
    on = "" if days.startswith(("daily", "every", "all", "7")) else "on "
    if entry.opens is None:
        if draw.split == "held":
            return f"nobody is here {on}{days}: closed."
        return rng.choice(
            (f"{subject} {are} closed {on}{days}.", f"{on}{days} {subject} {are} closed.", f"{days}: closed.")
        )
    if draw.split == "held":
        return rng.choice(
            (
                f"visit {subject if subject != 'we' else 'us'} {on}{days}, {entry.opens}{draw.style.range}{entry.closes}.",
                f"{on}{days} the doors of {subject if subject != 'we' else 'the house'} are open {entry.opens} to {entry.closes}.",
            )
        )
    return rng.choice(
        (
            f"{subject} {are} open {on}{days} from {entry.opens} to {entry.closes}.",
            f"{subject} {are} open {on}{days}, {entry.opens}{draw.style.range}{entry.closes}.",
            f"{on}{days}, {subject} {are} open from {entry.opens} until {entry.closes}.",
            f"{subject} {'open' if are == 'are' else 'opens'} at {entry.opens} and {'close' if are == 'are' else 'closes'} at {entry.closes} {on}{days}.",
            f"opening hours {'of ' + subject + ' ' if subject != 'we' else ''}{on}{days}: {entry.opens}{draw.style.range}{entry.closes}.",
        )
    )
