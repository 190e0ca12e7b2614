"""Questions about the sheet's world that the sheet doesn't answer; most are close to what it does answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training import attributes as about
from training import keys, nouns, things
from training.exchange import Exchange, phrase_question, unknown
from training.facts import Thing, say
from training.question_wordings import (
    ASK_POLICY,
    ASK_ROLE,
    EXISTS,
    EXISTS_PLURAL,
    SORT_ATTRIBUTES,
)
from training.schedules import ASK_DAY, ASK_WEEK, CLAUSE_DAY, CLAUSE_WEEK, Schedule
from training.topics import TOPICS
from training.wordlists import DAYS

if TYPE_CHECKING:
    from training.attributes import Attribute
    from training.lexicon import Draw
    from training.sheets import Sheet


def ask_unknown(draw: Draw, sheet: Sheet) -> Exchange:
    """A question about the sheet's world that the sheet doesn't answer; most are close to what it does answer."""
    makers = (_absent_attribute, _absent_attribute, _absent_thing, _absent_thing, _absent_key, _absent_topic, _absent_role, _absent_person,
              _absent_hours, _absent_policy)  # fmt: skip
    while True:
        found = draw.rng.choice(makers)(draw, sheet)
        if found is not None:
            question, clause, kind = found
            return Exchange(question, unknown(clause, draw), "unknown", (), kind)


_Unknown = tuple[str, str, str] | None


def _mentioned(sheet: Sheet, names: tuple[str, ...]) -> bool:
    text = sheet.text.lower()
    return any(name.lower().removeprefix("~") in text for name in names)


def _clause(draw: Draw, attribute: Attribute, thing: Thing) -> str:
    return say(draw.rng.choice(attribute.clauses.train), thing)


def _absent_attribute(draw: Draw, sheet: Sheet) -> _Unknown:
    """A thing of the sheet, but what is asked of it isn't there."""
    records = [(s.sort, record) for s in sheet.sections if s.sort in SORT_ATTRIBUTES for record in s.records]
    if not records:
        return None
    sort, record = draw.rng.choice(records)
    known = {fact.attribute.name for fact in record}
    if any(schedule.thing is record[0].thing for schedule in sheet.schedules):
        known.add("open")
    if "place" in known or "office" in known:
        known |= {"place", "location", "office"}
    missing = [attribute for attribute in SORT_ATTRIBUTES[sort] if attribute.name not in known]
    if not missing:
        return None
    attribute = draw.rng.choice(missing)
    thing = record[0].thing
    return (
        phrase_question(draw, attribute.asks, attribute.clauses, thing),
        _clause(draw, attribute, thing),
        attribute.kind,
    )


def _absent_thing(draw: Draw, sheet: Sheet) -> _Unknown:
    """A thing that the sheet doesn't speak of, of a sort that it does speak of if possible."""
    rng = draw.rng
    sorts = [section.sort for section in sheet.sections if section.sort not in ("key", "topic")]
    sort = (
        rng.choice(sorts)
        if sorts and rng.random() < 0.7
        else rng.choice([s for s in things.MAKERS if s not in ("key", "topic")])
    )
    record = things.MAKERS[sort](draw, 1).records[0]
    thing = record[0].thing
    if _mentioned(sheet, thing.names):
        return None
    attribute = rng.choice((record[0].attribute, *SORT_ATTRIBUTES.get(sort, ())))
    asked = thing.names[0]
    if sort == "facility" and rng.random() < 0.25:
        asks = EXISTS_PLURAL if thing.plural else EXISTS
        clause = f"whether there {'are' if thing.plural else 'is a'} {asked}"
        return draw.say(asks).format(k=asked), clause, "place"
    only = Thing((asked,), thing.article, thing.plural)
    return (
        phrase_question(draw, attribute.asks, attribute.clauses, only),
        _clause(draw, attribute, only),
        attribute.kind,
    )


def _absent_key(draw: Draw, sheet: Sheet) -> _Unknown:
    """An invented key, half of the time one that shares a word with a key of the sheet."""
    present = [
        record[0].thing.names[0] for section in sheet.sections if section.sort == "key" for record in section.records
    ]
    key = keys.draw_key(draw)
    if present and draw.rng.random() < 0.6:
        other = draw.rng.choice(present).split()
        head = next((k for k, v in keys.HEADS.items() if other[-1] in v), None)
        if draw.rng.random() < 0.5 and head:
            key = keys.Key(f"{draw.rng.choice(keys.MODIFIERS)} {other[-1]}", head)
        else:
            key = keys.Key(f"{other[0]} {draw.rng.choice(keys.HEADS[key.kind])}", key.kind)
    words = key.text.lower().split()
    if any(all(w in line.lower() for w in words) for line in sheet.text.replace(". ", "\n").split("\n")):
        return None
    thing = Thing((key.text,))
    attribute = things.KEY_ATTRIBUTES[key.kind]
    return phrase_question(draw, attribute.asks, attribute.clauses, thing), _clause(draw, attribute, thing), key.kind


TOPIC_OVERLAPS = {
    "Parking fee": ("park",), "Parking": ("park",), "Founder": ("found",), "Founded": ("found", "established", "since"), "Next tour": ("tour",),
    "Meeting point": ("meet",), "Tour languages": ("language", "tour"), "Wi-Fi network": ("wi-fi", "wifi", "wlan", "network", "internet"),
    "Wi-Fi password": ("wi-fi", "wifi", "wlan", "password"), "Rest day": ("closed", "closing", "rest day"), "Free admission": ("free",),
    "Dish of the day": ("dish", "lunch", "special", "menu"), "Address": ("address", "located", "location"), "Late fee": ("fee", "fine", "late"),
    "Price from": ("room", "night", "suite"), "Last admission": ("last", "admission", "entry"), "Booking phone": ("book", "reserv"),
    "Nearest stop": ("stop", "station"), "Bus line": ("bus",), "Emergency number": ("emergency",), "Number of floors": ("floors", "storeys"),
    "Email": ("mail", "@"), "Website": ("web", "www", "online", "internet"), "Phone": ("phone", "call", "tel"), "Check-in": ("check",),
    "Check-out": ("check",), "Minimum age": ("age", "old"), "Architect": ("architect", "design"), "Loan period": ("loan", "borrow", "lend"),
    "Waiting time": ("wait",), "Maximum stay": ("stay", "limit", "park"),
}  # fmt: skip


def _absent_topic(draw: Draw, sheet: Sheet) -> _Unknown:
    topic = draw.rng.choice(TOPICS)
    text = sheet.text.lower()
    if any(word in text for word in TOPIC_OVERLAPS[topic.names[0]]):
        return None
    thing = Thing((topic.names[0],))
    return (
        phrase_question(draw, topic.attribute.asks, topic.attribute.clauses, thing),
        _clause(draw, topic.attribute, thing),
        topic.attribute.kind,
    )


def _absent_role(draw: Draw, sheet: Sheet) -> _Unknown:
    forms = draw.rng.choice(nouns.ROLES)
    if _mentioned(sheet, tuple(word for form in forms for word in form.split() if len(word) > 3)):
        return None
    return draw.say(ASK_ROLE).format(r=forms[0]), f"who the {forms[0]} is", "name"


def _absent_person(draw: Draw, sheet: Sheet) -> _Unknown:
    name = keys.person_name(draw)
    if _mentioned(sheet, (name.split()[-1],)):
        return None
    person = Thing((name,), "")
    attribute = draw.rng.choice(SORT_ATTRIBUTES["person"])
    return (
        phrase_question(draw, attribute.asks, attribute.clauses, person),
        _clause(draw, attribute, person),
        attribute.kind,
    )


def _absent_hours(draw: Draw, sheet: Sheet) -> _Unknown:
    """The hours of something whose hours the sheet doesn't give."""
    rng = draw.rng
    with_hours = {schedule.thing.names[0] for schedule in sheet.schedules if schedule.thing}
    with_hours |= {fact.thing.names[0] for fact in sheet.facts if fact.attribute is about.OPEN}
    if not any(schedule.thing is None for schedule in sheet.schedules) and rng.random() < 0.5:
        if "open" in sheet.text.lower() or "closed" in sheet.text.lower():
            return None
        day = rng.randrange(7)
        schedule = Schedule(None, (), "")
        if rng.random() < 0.5:
            return schedule.ask(draw.say(ASK_WEEK), draw, sheet.venue), CLAUSE_WEEK.format(e="we", are="are"), "time"
        clause = CLAUSE_DAY.format(e="we", are="are", d=DAYS[day])
        return schedule.ask(draw.say(ASK_DAY), draw, sheet.venue, day), clause, "time"
    facilities = [f.thing for s in sheet.sections if s.sort == "facility" for r in s.records for f in r[:1]]
    facilities = [thing for thing in facilities if thing.names[0] not in with_hours]
    if facilities and rng.random() < 0.6:
        thing = rng.choice(facilities)
    else:
        thing = things.common(rng.choice(nouns.FACILITIES), draw)
        if _mentioned(sheet, thing.names):
            return None
    schedule = Schedule(thing, (), "")
    if rng.random() < 0.5:
        return (
            schedule.ask(draw.say(ASK_WEEK), draw, sheet.venue),
            CLAUSE_WEEK.format(e=thing.said, are=schedule.are),
            "time",
        )
    day = rng.randrange(7)
    clause = CLAUSE_DAY.format(e=thing.said, are=schedule.are, d=DAYS[day])
    return schedule.ask(draw.say(ASK_DAY), draw, sheet.venue, day), clause, "time"


def _absent_policy(draw: Draw, sheet: Sheet) -> _Unknown:
    forms = draw.rng.choice(nouns.POLICIES)
    stems = tuple(word.rstrip("s") for word in forms[0].split() if len(word) > 3)
    if _mentioned(sheet, stems):
        return None
    verb = "is" if forms[0] in nouns.SINGULAR_POLICIES else "are"
    question = (
        draw.rng.choice(forms[1:])
        if draw.split == "train" and draw.rng.random() < 0.6
        else draw.say(ASK_POLICY).format(p=forms[0])
    )
    return question, f"whether {forms[0]} {verb} allowed", ""
