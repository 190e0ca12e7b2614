"""Open-ended "key: value" facts: keys made of many nouns, so that a question must be matched, not remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from training import wordlists as words
from training.phrasings import phrasings

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.lexicon import Draw

MODIFIERS = (
    "locker|visitor|guest|staff|student|member|parking|delivery|projector|printer|coffee|lunch|dinner|breakfast|laundry|pool|"
    "sauna|towel|garden|roof|tower|museum|gallery|library|book|map|ticket|group|school|family|night|day|morning|evening|"
    "summer|winter|weekend|holiday|emergency|fire|security|main|side|back|north|south|east|west|old|new|small|large|lower|"
    "upper|inner|outer|red|blue|green|yellow|silver|golden|bicycle|bus|tram|taxi|airport|train|harbour|ferry|boat|luggage|"
    "baggage|wardrobe|umbrella|key|badge|card|gift|shop|souvenir|poster|catalogue|audio|video|film|music|piano|organ|stage|"
    "concert|theatre|exhibition|workshop|course|exam|lecture|seminar|lab|computer|internet|phone|fax|mail|parcel|letter|"
    "package|waste|glass|paper|battery|water|tea|milk|bread|fruit|salad|soup|cake|ice cream|wine|beer|kitchen|canteen|table|"
    "chair|room|hall|floor|lift|stair|door|gate|bridge|tunnel|corridor|window|balcony|terrace|playground|sports|gym|yoga|"
    "tennis|football|climbing|swimming|sailing|ski|skate|wheelchair|pram|baby|children's|youth|senior|volunteer|donation|"
    "blood|vaccination|dental|eye|heart|skin|X-ray|pharmacy|ward|patient|nurse|doctor's|visa|passport|tax|housing|wedding|"
    "market|bakery|butcher's|flower|toy|shoe|clothing|returns|repair|cleaning|maintenance|heating|alarm|camera|drone|robot|"
    "telescope|microscope|dinosaur|whale|butterfly|penguin|lion|rose|orchid|herb|meteorite|sculpture|painting"
).split("|")

# head of the key -> the kind of its value
HEADS: dict[str, tuple[str, ...]] = {
    "money": ("deposit", "fee", "surcharge", "discount price", "fine", "rental price", "minimum order", "voucher value",
              "service charge", "late fee", "reservation fee", "refund amount"),
    "code": ("code", "PIN", "password", "access code", "booking code", "door code", "reference", "ID", "lock combination"),
    "colour": ("colour", "badge colour", "line colour", "wristband colour", "sign colour", "sticker colour"),
    "place": ("meeting point", "assembly point", "collection point", "entrance", "drop-off point", "pick-up point", "counter",
              "storage", "desk", "stand", "exit", "shelter", "return point"),
    "phone": ("hotline", "number", "helpline", "contact number", "emergency number", "fax number"),
    "time": ("deadline", "curfew", "closing bell", "last entry", "start", "check", "pick-up time", "feeding time",
             "departure", "last call", "quiet time"),
    "person": ("contact", "supervisor", "coordinator", "sponsor", "founder", "architect", "designer", "owner", "mascot",
               "representative", "donor", "patron"),
    "number": ("limit", "capacity", "count", "maximum", "quota", "number of seats", "number of places", "number of steps"),
    "day": ("day", "rest day", "delivery day", "cleaning day", "collection day", "inspection day"),
    "language": ("language", "tour language", "course language", "subtitle language"),
    "length": ("height", "length", "width", "depth", "distance", "maximum height"),
    "duration": ("duration", "waiting time", "loan period", "warranty", "break", "rental period", "visit length"),
    "year": ("founding year", "opening year", "renovation year"),
    "date": ("anniversary", "registration deadline", "closing date", "start date", "open day date"),
    "email": ("email", "mailbox", "contact address"),
    "name": ("name", "brand", "network name", "partner", "model", "app", "theme", "motto"),
    "material": ("material", "flavour", "ingredient", "menu of the day", "dish of the day"),
}  # fmt: skip
MATERIALS = (
    "oak|pine|marble|granite|glass|steel|copper|bronze|silk|cotton|wool|leather|vanilla|pistachio|lemon|cinnamon|mango|ginger|"
    "lentil soup|pea soup|spinach lasagne|mushroom risotto|pumpkin curry|potato salad|fish stew|vegetable pie|tofu bowl|"
    "chickpea wrap|beetroot salad|noodle soup|goat cheese tart|rice pudding|plum cake|tomato tart|bean chili"
).split("|")

ASKS = phrasings("""
(What|Which) (is|would be|was) (the|your) {k}(| here| please| again)?
(Tell me|Give me|I need|I want|I'd like|Show me|State|May I have|Could I get|I would need|I'm looking for) the {k}(| please).
{k}(|?| please| please?| again)
(What about|How about|And|Now) the {k}(| please)?
What do (you|we) have (as|for) the {k}(| here)?
Do you (know|have) (the|your) {k}(| please)?
What is the {k}?
What's the {k}?
Tell me the {k}.
{k}?
Which {k} do you have?
I need the {k}.
Give me the {k}.
What is your {k}?
Do you have the {k}?
What about the {k}?
I'm asking about the {k}.
The {k}, please.
Can I have the {k}?
What would the {k} be?
* I would need the {k}.
* Kindly state the {k}.
* What do you have as {k}?
""")
TIME_ASKS = phrasings("""
(When|At what time|At what hour|When exactly|What time|On what day|For when) is the {k}(| please| today)?
(When|What) would the {k} be(| please| exactly)?
{k}(|?| please| when)
When is the {k}?
At what time is the {k}?
What time is the {k}?
What is the {k}?
At what hour is the {k}?
* When exactly is the {k}?
""")
PLACE_ASKS = phrasings("""
(Where|Where exactly|Whereabouts|In what place) is the {k}(| located| please)?
(How|Where) do I (get to|find|reach|go to) the {k}(| please)?
(I'm looking for|Show me|I need|Take me to) the {k}(| please).
{k}(|?| please| where)
Where is the {k}?
Where can I find the {k}?
What is the {k}?
How do I get to the {k}?
Whereabouts is the {k}?
* How do I reach the {k}?
""")
PERSON_ASKS = phrasings("""
(Who|Who exactly|Which person) is the {k}(| please| here)?
Who (acts|works|serves) as the {k}(| here| please)?
(What is|What's|Tell me|I need) the name of the {k}(| please)?
{k}(|?| please| who| name)
Who is the {k}?
What is the name of the {k}?
Who's the {k}?
Who acts as the {k}?
* What is the {k} called?
""")
MONEY_ASKS = phrasings("""
(How much|How high|How expensive) is the {k}(| please| here)?
What (does|will|would) the {k} cost(| me| please)?
What (amount|price|sum) (is|would be) the {k}?
{k}(|?| please| how much)
How much is the {k}?
What is the {k}?
How high is the {k}?
What does the {k} cost?
How expensive is the {k}?
* What amount is the {k}?
""")
ASKS_BY_KIND = {
    "time": TIME_ASKS, "date": TIME_ASKS, "day": TIME_ASKS, "place": PLACE_ASKS, "person": PERSON_ASKS, "money": MONEY_ASKS,
}  # fmt: skip
CLAUSES = phrasings("""
what the {k} is
the {k}
* what the {k} would be
""")
ANSWERS = ("The {k} is {v}.",)
PROSE = phrasings("""
The {k} is {v}.
Our {k} is {v}.
As {k} we have {v}.
{v} is the {k}.
For the {k}, note {v}.
* The {k} here is {v}.
""")


@dataclass(frozen=True)
class Key:
    """An invented key and the kind of value that belongs to it."""

    text: str
    kind: str


def draw_key(draw: Draw) -> Key:
    """An invented key such as "towel deposit" or "north gate code"."""
    rng = draw.rng
    kind = rng.choice(tuple(HEADS))
    head = rng.choice(HEADS[kind])

    def make() -> str:
        text = f"{rng.choice(MODIFIERS)} {head}"
        if rng.random() < 0.15:
            text = f"{rng.choice(MODIFIERS)} {text}"
        return text

    return Key(draw.until(make), kind)


def draw_value(draw: Draw, kind: str) -> tuple[str, str]:
    """A value of a kind: how the sheet prints it, and how it stands in a sentence."""
    rng = draw.rng
    if kind == "place":
        place = draw.place()
        return place.text, place.phrase
    sources: dict[str, Callable[[], str]] = {
        "money": draw.money,
        "code": draw.code,
        "colour": lambda: rng.choice(words.COLOURS),
        "phone": draw.phone,
        "time": lambda: draw.time(draw.clock()),
        "person": lambda: person_name(draw),
        "number": draw.number,
        "day": lambda: rng.choice(words.DAYS),
        "language": lambda: rng.choice(words.LANGUAGES),
        "length": lambda: draw.number(2, 900) + rng.choice((" m", " cm", " metres", " km")),
        "duration": lambda: duration(draw),
        "year": draw.year,
        "date": lambda: date(draw),
        "email": lambda: f"{draw.proper().lower()}@{draw.domain()}",
        "name": lambda: invented_name(draw),
        "material": lambda: rng.choice(MATERIALS),
    }
    text = sources[kind]()
    return text, text


def duration(draw: Draw) -> str:
    """A length of time."""
    rng = draw.rng
    unit = rng.choice(("minutes", "minutes", "min", "hours", "days", "weeks"))
    high = {"minutes": 240, "min": 240, "hours": 96, "days": 120, "weeks": 80}[unit]
    return draw.until(lambda: f"{rng.randint(2, high)} {unit}")


def date(draw: Draw) -> str:
    """A calendar date."""
    rng = draw.rng
    return draw.until(
        lambda: rng.choice(
            (
                f"{rng.randint(1, 31)} {rng.choice(words.MONTHS)}",
                f"{rng.choice(words.MONTHS)} {rng.randint(1, 31)}",
                f"{rng.randint(1, 31):02d}.{rng.randint(1, 12):02d}.{rng.randint(2024, 2032)}",
                f"{rng.randint(2024, 2032)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
            )
        )
    )


def person_name(draw: Draw) -> str:
    """A person's name, sometimes with a title."""
    title = draw.rng.choices(
        ("", "Dr. ", "Prof. ", "Ms ", "Mr ", "Dr ", "Mrs. ", "Mr. ", "Mrs "), (62, 12, 6, 5, 5, 4, 2, 2, 2)
    )[0]
    if (title.startswith("M") and draw.rng.random() < 0.6) or draw.rng.random() < 0.04:
        return title + draw.last_name()
    middle = f" {draw.rng.choice('ABCDEFGHJKLMNPRST')}." if draw.rng.random() < 0.04 else ""
    return f"{title}{draw.first_name()}{middle} {draw.last_name()}"


def invented_name(draw: Draw) -> str:
    """A name of a network, brand or app."""
    name = draw.proper()
    roll = draw.rng.random()
    if roll < 0.3:
        return f"{name} {draw.proper()}"
    if roll < 0.5:
        return f"{name}-{draw.rng.choice(('Guest', 'Net', 'WiFi', 'Free', 'Public', 'Visitors', 'Go', 'Plus'))}"
    return name
