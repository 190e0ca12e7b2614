"""Draws sections of a sheet: things of one sort (facilities, prices, people, events, …) with their facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training import attributes as about
from training import keys, nouns
from training import wordlists as words
from training.attributes import Attribute
from training.facts import Fact, Section, Thing, upper_first
from training.phrasings import phrasings
from training.topics import PARKING, PARKING_FEE, draw_topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.lexicon import Draw

_ANY = phrasings("")
KEY_ATTRIBUTES = {
    kind: Attribute(
        "value", kind, ("Value",), keys.ASKS_BY_KIND.get(kind, keys.ASKS), keys.CLAUSES, _ANY, keys.ANSWERS, keys.PROSE
    )
    for kind in keys.HEADS
}


def plain(thing: Thing, attribute: Attribute, value: str) -> Fact:
    """A fact whose value reads the same in a list and in a sentence."""
    return Fact(thing, attribute, value, value, (value,))


def placed(draw: Draw, thing: Thing, attribute: Attribute) -> Fact:
    """A fact about where something is."""
    place = draw.place()
    printed = place.phrase if draw.rng.random() < 0.3 else place.text
    return Fact(thing, attribute, printed, place.phrase, (place.text,))


def common(forms: tuple[str, ...], draw: Draw, *, plural: bool = False) -> Thing:
    """A thing from a list of synonyms; a random one is what the sheet prints."""
    if forms[0].startswith("~"):
        plural, forms = True, (forms[0][1:], *forms[1:])
    first = draw.rng.choice(forms) if draw.rng.random() < 0.4 else forms[0]
    return Thing(
        (first, *(form for form in forms if form != first)), "the ", plural or first in nouns.PLURAL_FACILITIES
    )


def _some(draw: Draw, facts: list[Fact], keep: float) -> tuple[Fact, ...]:
    """Drops facts at random, so that what one thing has another lacks; never all of them."""
    kept = tuple(fact for fact in facts if draw.rng.random() < keep)
    return kept or (draw.rng.choice(facts),)


def display(draw: Draw) -> Thing:
    """Something to look at: "the coin collection", "the model ships"."""
    rng = draw.rng
    topic = rng.choice(nouns.EVENT_TOPICS).lower()
    if topic.endswith("s") and rng.random() < 0.4:
        return Thing(
            (f"{rng.choice(('model', 'old', 'glass', 'giant', 'golden', 'toy', 'paper', 'wooden'))} {topic}",),
            "the ",
            plural=True,
        )
    kind = rng.choice(
        ("exhibition", "collection", "gallery", "room", "hall", "display", "show", "corner", "cabinet", "section")
    )
    return Thing((f"{topic} {kind}", f"{topic.removesuffix('s')} {kind}"), "the ")


def facilities(draw: Draw, count: int) -> Section:
    """Where things are, and how to call them."""
    records: list[tuple[Fact, ...]] = []
    phones, hours = draw.rng.random() < 0.3, draw.rng.random() < 0.25
    for forms in draw.rng.sample(nouns.FACILITIES, count):
        thing = common(forms, draw) if draw.rng.random() < 0.85 else display(draw)
        facts = [placed(draw, thing, about.LOCATION)]
        if phones and draw.rng.random() < 0.5:
            facts.append(plain(thing, about.PHONE, draw.phone() if draw.rng.random() < 0.6 else draw.extension()))
            facts = list(_some(draw, facts, 0.8))
        if hours and draw.rng.random() < 0.7:
            start, end = draw.time(draw.clock(6, 13)), draw.time(draw.clock(14, 23))
            facts.append(
                Fact(thing, about.OPEN, f"{start}{draw.style.range}{end}", f"from {start} to {end}", (start, end))
            )
        records.append(tuple(facts))
    return Section(
        "facility",
        ("Facilities", "Where to find what", "Directions", "In the house", "Find your way", "Map"),
        tuple(records),
    )


def tickets(draw: Draw, count: int) -> Section:
    """What each sort of visitor pays."""
    records: list[tuple[Fact, ...]] = []
    rng = draw.rng
    for forms in rng.sample(nouns.VISITORS, min(count, 7)):
        first = rng.choice(forms) if rng.random() < 0.3 else forms[0]
        names = (first, *(form for form in forms if form != first))
        if rng.random() < 0.1:
            low = rng.randint(3, 60)
            names = (f"{first} ({low}–{low + rng.randint(2, 12)})", first, *names)
        elif rng.random() < 0.1:
            phrase = rng.choice(nouns.AGED_VISITORS).format(n=rng.randint(3, 70))
            names = (phrase, phrase, phrase.split()[0])
        if any(names[-1] == other[0].thing.names[-1] for other in records):
            continue
        thing = Thing(names, "", plural=True)
        if rng.random() < 0.1:
            records.append((Fact(thing, about.FREE_TICKET, "free", "free", ("free",)),))
        else:
            records.append((plain(thing, about.PRICE_TICKET, draw.money()),))
    return Section("ticket", ("Tickets", "Admission", "Ticket prices", "Entry fees", "Prices"), tuple(records))


def goods(draw: Draw, count: int) -> Section:
    """What things cost."""
    records: list[tuple[Fact, ...]] = []
    for forms in draw.rng.sample(nouns.GOODS, count):
        first = draw.rng.choice(forms) if draw.rng.random() < 0.4 else forms[0]
        thing = Thing((first, *(f for f in forms if f != first)), "the ", first in nouns.PLURAL_GOODS)
        records.append((plain(thing, about.PRICE, draw.money()),))
    return Section("good", ("Prices", "Price list", "What it costs", "Menu", "Offers", "Rates"), tuple(records))


def phones(draw: Draw, count: int) -> Section:
    """A list of telephone numbers."""
    short = draw.rng.random() < 0.4
    pool = (*nouns.FACILITIES, *nouns.FACILITIES, *nouns.SERVICES)
    chosen = [common(forms, draw) for forms in draw.rng.sample(pool, count)]
    things = {thing.names[0]: thing for thing in chosen}.values()
    records = tuple((plain(thing, about.PHONE, draw.extension() if short else draw.phone()),) for thing in things)
    return Section(
        "phone", ("Phone numbers", "Telephone", "Contact", "Important numbers", "Call us", "Numbers"), records
    )


def mixed(draw: Draw, count: int) -> Section:
    """Things with whatever is to be said of each: a place, a price per hour, a contact, a number, hours."""
    rng = draw.rng
    pool = (*nouns.FACILITIES, *nouns.GOODS, *nouns.SERVICES)
    records: list[tuple[Fact, ...]] = []
    seen: set[str] = set()
    for forms in rng.sample(pool, count):
        thing = common(forms, draw)
        if any(name in seen for name in thing.names):
            continue
        seen.update(thing.names)
        start, end = draw.time(draw.clock(6, 13)), draw.time(draw.clock(14, 23))
        unit = rng.choice(("", "", " per hour", " per day", " per person", " each", " per night", " an hour"))
        facts = (
            placed(draw, thing, about.LOCATION),
            plain(thing, about.PRICE, draw.money() + unit),
            plain(thing, about.PHONE, draw.phone()),
            plain(thing, about.CONTACT, keys.person_name(draw)),
            Fact(thing, about.OPEN, f"{start}{draw.style.range}{end}", f"from {start} to {end}", (start, end)),
            plain(thing, about.DURATION, keys.duration(draw)),
        )
        records.append(tuple(rng.sample(facts, rng.choice((1, 1, 2, 2, 3)))))
    if rng.random() < 0.25:
        records.insert(rng.randint(0, len(records)), parking(draw))
    return Section(
        "mixed", ("Practical", "Services and places", "Good to know", "Visitor services", "Also here"), tuple(records)
    )


def parking(draw: Draw) -> tuple[Fact, ...]:
    """Where to park, and mostly for how much."""
    rng = draw.rng
    thing = Thing((rng.choice(("parking", "parking", "car park", "parking spaces")),))
    where = placed(draw, thing, PARKING.attribute)
    if rng.random() < 0.3:
        return (where,)
    fee = plain(
        thing, PARKING_FEE.attribute, draw.money() + rng.choice((" per hour", " per day", " an hour", " a day", ""))
    )
    return (where, fee) if rng.random() < 0.85 else (fee, where)


def doctors(draw: Draw, count: int) -> Section:
    """People by what they treat, with their room."""
    rng = draw.rng
    room, phone = rng.random() < 0.7, rng.random() < 0.25
    records: list[tuple[Fact, ...]] = []
    for forms in rng.sample(nouns.SPECIALTIES, count):
        first, last = draw.first_name(), draw.last_name()
        name = f"Dr. {first} {last}" if rng.random() < 0.8 else f"Dr. {last}"
        person = Thing((name, f"Dr. {last}", f"Dr {last}", name), "")
        field = rng.choice(forms)
        facts = [Fact(person, about.FIELD, field, field, (field,))]
        if room and rng.random() < 0.9:
            text = f"{rng.choice(('room', 'Room', 'room'))} {draw.room()}"
            facts.append(Fact(person, about.OFFICE, text, f"in {text}", (text,)))
        if phone and rng.random() < 0.8:
            facts.append(plain(person, about.PERSON_PHONE, draw.phone()))
        records.append(tuple(facts))
    return Section("doctor", ("Doctors", "Our doctors", "Specialists", "Practice team", "Physicians"), tuple(records))


def people(draw: Draw, count: int) -> Section:
    """Who does what, in which room, under which number."""
    rng = draw.rng
    wanted = rng.sample(("role", "office", "phone", "email"), rng.choice((1, 2, 2, 3)))
    if "role" not in wanted and rng.random() < 0.6:
        wanted.append("role")
    short_phone = rng.random() < 0.5
    domain = draw.domain()
    records: list[tuple[Fact, ...]] = []
    seen: set[str] = set()
    for forms in rng.sample(nouns.ROLES, count):
        name = keys.person_name(draw)
        last = name.split()[-1]
        if last in seen:
            continue
        seen.add(last)
        short = [last if name.split()[0].endswith((".", "Ms", "Mr")) else name]
        if name.startswith(("Dr", "Prof", "Ms", "Mr")):
            short = [f"{name.split()[0]} {last}"]
        person = Thing((name, *(s for s in short if s != name)), "")
        facts = []
        for attribute in wanted:
            if attribute == "role":
                role = rng.choice(forms)
                facts.append(Fact(person, about.ROLE, role, role, (role,)))
            elif attribute == "office":
                if rng.random() < 0.6:
                    text = f"{rng.choice(('room', 'Room', 'office', 'Room'))} {draw.room()}"
                    facts.append(Fact(person, about.OFFICE, text, f"in {text}", (text,)))
                else:
                    facts.append(placed(draw, person, about.OFFICE))
            elif attribute == "phone":
                facts.append(plain(person, about.PERSON_PHONE, draw.extension() if short_phone else draw.phone()))
            else:
                local = last.lower() if rng.random() < 0.6 else f"{name[0].lower()}.{last.lower()}"
                facts.append(plain(person, about.EMAIL, f"{local}@{domain}"))
        roles = [fact for fact in facts if fact.attribute is about.ROLE]
        rest = [fact for fact in facts if fact.attribute is not about.ROLE]
        records.append((*roles, *(_some(draw, rest, 0.85) if rest else ())))
    return Section(
        "person", ("Staff", "Team", "People", "Our team", "Contacts", "Who is who", "Contact persons"), tuple(records)
    )


def contacts(draw: Draw, count: int) -> Section:
    """Whom to turn to: people by their role, and things with somebody in charge or a number."""
    rng = draw.rng
    roles = [record[0] for record in people(draw, count).records if record[0].attribute is about.ROLE]
    pool = rng.sample((*nouns.FACILITIES, *nouns.SERVICES), count)
    short = rng.random() < 0.5
    records: list[tuple[Fact, ...]] = []
    for forms in pool:
        number = draw.extension() if short else draw.phone()
        if roles and rng.random() < 0.55:
            role = roles.pop()
            phone = plain(role.thing, about.PERSON_PHONE, number)
            records.append((role, phone) if rng.random() < 0.3 else (role,))
            continue
        thing = common(forms, draw)
        facts = [plain(thing, about.CONTACT, keys.person_name(draw)), plain(thing, about.PHONE, number)]
        records.append(_some(draw, facts, 0.7))
    return Section(
        "contact", ("Contact", "Contacts", "Who to ask", "Your contacts", "Responsible", "Ask us"), tuple(records)
    )


def event_title(draw: Draw) -> str:
    """A title such as "Origami for Beginners"."""
    rng = draw.rng

    def make() -> str:
        topics = rng.sample(nouns.EVENT_TOPICS, 2)
        return rng.choice(nouns.EVENT_STARTS).format(
            t=topics[0], u=topics[1], k=rng.choice(nouns.EVENT_KINDS), p=draw.proper()
        )

    return draw.until(make)


def _short(title: str, draw: Draw) -> tuple[str, ...]:
    """What people call an event: its title, sometimes with "the"."""
    return (title,) if draw.rng.random() < 0.6 else (title, f"the {title}")


def events(draw: Draw, count: int) -> Section:
    """Events or courses with their day, time, room, host and price."""
    rng = draw.rng
    wanted = rng.sample(("time", "time", "day", "place", "host", "price"), rng.choice((1, 2, 3, 3, 4)))
    records: list[tuple[Fact, ...]] = []
    for _ in range(count):
        thing = Thing(_short(event_title(draw), draw), "")
        facts: list[Fact] = []
        for attribute in dict.fromkeys(wanted):
            if attribute == "time":
                facts.append(plain(thing, about.START_TIME, draw.time(draw.clock(8, 22))))
            elif attribute == "day":
                day = rng.choice(words.DAYS) if rng.random() < 0.7 else keys.date(draw)
                facts.append(plain(thing, about.DAY, day))
            elif attribute == "place":
                if rng.random() < 0.6:
                    hall = hall_name(draw)
                    prefix = "the " if not hall[-1].isdigit() and rng.random() < 0.5 else ""
                    facts.append(Fact(thing, about.VENUE, hall, f"in {prefix}{hall}", (hall,)))
                else:
                    facts.append(placed(draw, thing, about.VENUE))
            elif attribute == "host":
                facts.append(plain(thing, about.HOST, keys.person_name(draw)))
            else:
                facts.append(plain(thing, about.EVENT_PRICE, draw.money()))
        records.append(_some(draw, facts, 0.88))
    titles = (
        "Events",
        "Programme",
        "Today's programme",
        "Courses",
        "Workshops",
        "What's on",
        "Schedule",
        "Agenda",
        "Classes",
    )
    return Section("event", titles, tuple(records))


def hall_name(draw: Draw) -> str:
    """A named room: "Amber Hall", "Room 12", "Kevra Suite"."""
    rng = draw.rng

    def make() -> str:
        kind = rng.choice(nouns.HALL_KINDS)
        roll = rng.random()
        if roll < 0.35:
            return f"{rng.choice(nouns.HALL_NAMES)} {kind}"
        if roll < 0.65:
            return f"{draw.proper()} {kind}"
        return f"{kind} {draw.room() if roll < 0.85 else rng.choice('ABCDEFGH')}"

    return draw.until(make)


def halls(draw: Draw, count: int) -> Section:
    """Rooms with their floor and capacity."""
    rng = draw.rng
    wanted = rng.choice((("place", "capacity"), ("place",), ("capacity",), ("place", "phone"), ("capacity", "price")))
    records: list[tuple[Fact, ...]] = []
    for _ in range(count):
        thing = Thing((hall_name(draw),), "")
        facts: list[Fact] = []
        if "place" in wanted:
            place = draw.floor() if draw.split == "train" and rng.random() < 0.6 else draw.place()
            facts.append(Fact(thing, about.LOCATION, place.text, place.phrase, (place.text,)))
        if "capacity" in wanted:
            number = draw.number(4, 400)
            facts.append(Fact(thing, about.CAPACITY, number, number, (number,)))
        if "phone" in wanted:
            facts.append(plain(thing, about.PHONE, draw.extension()))
        if "price" in wanted:
            facts.append(plain(thing, about.PRICE, draw.money(10, 300)))
        records.append(_some(draw, facts, 0.9))
    return Section("hall", ("Rooms", "Halls", "Meeting rooms", "Our rooms", "Spaces"), tuple(records))


def departures(draw: Draw, count: int) -> Section:
    """Trains, buses and boats."""
    rng = draw.rng
    vehicle = rng.choice(nouns.VEHICLES)
    wanted = ["time", *rng.sample(("platform", "platform", "price", "duration"), rng.choice((0, 1, 2)))]
    word = rng.choice(("platform", "platform", "track", "gate", "bay", "stop"))
    records: list[tuple[Fact, ...]] = []
    for _ in range(count):
        town = (
            draw.proper()
            if rng.random() < 0.75
            else draw.until(lambda: f"{draw.proper()} {rng.choice(nouns.DESTINATIONS)}")
        )
        thing = Thing((f"{vehicle} to {town}", f"{vehicle} for {town}", f"next {vehicle} to {town}"), "the ")
        facts: list[Fact] = [plain(thing, about.DEPARTURE, draw.time(draw.clock(5, 23)))]
        for attribute in dict.fromkeys(wanted[1:]):
            if attribute == "platform":
                text = f"{word} {rng.randint(1, 24)}{rng.choice(('', '', '', 'a', 'b'))}"
                facts.append(plain(thing, about.PLATFORM, text))
            elif attribute == "price":
                facts.append(plain(thing, about.PRICE, draw.money()))
            else:
                facts.append(plain(thing, about.DURATION, keys.duration(draw)))
        records.append(_some(draw, facts, 0.92))
    return Section(
        "departure",
        ("Departures", "Timetable", "Connections", f"Next {vehicle}s" if vehicle[-1] != "s" else "Lines"),
        tuple(records),
    )


def services(draw: Draw, count: int) -> Section:
    """Services with their price, duration and room."""
    rng = draw.rng
    wanted = rng.sample(("price", "duration", "place"), rng.choice((1, 2, 2, 3)))
    records: list[tuple[Fact, ...]] = []
    for forms in rng.sample(nouns.SERVICES, count):
        thing = common(forms, draw)
        facts: list[Fact] = []
        if "price" in wanted:
            facts.append(plain(thing, about.PRICE, draw.money(3, 200)))
        if "duration" in wanted:
            facts.append(plain(thing, about.DURATION, keys.duration(draw)))
        if "place" in wanted:
            facts.append(placed(draw, thing, about.VENUE))
        records.append(_some(draw, facts, 0.88))
    return Section(
        "service", ("Services", "Our services", "Treatments", "What we offer", "Appointments"), tuple(records)
    )


def exhibits(draw: Draw, count: int) -> Section:
    """Works with their maker, year and place."""
    rng = draw.rng
    wanted = rng.sample(("maker", "year", "place"), rng.choice((1, 2, 2, 3)))
    records: list[tuple[Fact, ...]] = []
    for _ in range(count):
        title = draw.until(lambda: f"The {rng.choice(nouns.WORKS)} {rng.choice(nouns.WORK_NOUNS)}")
        thing = Thing((title, title.removeprefix("The ")), "")
        facts: list[Fact] = []
        if "maker" in wanted:
            facts.append(plain(thing, about.MAKER, keys.person_name(draw)))
        if "year" in wanted:
            facts.append(plain(thing, about.YEAR, draw.year()))
        if "place" in wanted:
            facts.append(placed(draw, thing, about.VENUE))
        records.append(_some(draw, facts, 0.88))
    return Section("exhibit", ("Exhibits", "Highlights", "Collection", "On display", "Works"), tuple(records))


def key_facts(draw: Draw, count: int) -> Section:
    """Invented keys with values."""
    records: list[tuple[Fact, ...]] = []
    for _ in range(count):
        key = keys.draw_key(draw)
        printed, phrase = keys.draw_value(draw, key.kind)
        thing = Thing((key.text,))
        records.append((Fact(thing, KEY_ATTRIBUTES[key.kind], printed, phrase, (printed,)),))
    return Section(
        "key", ("Good to know", "Notes", "Details", "Facts", "Other", "Practical information"), tuple(records)
    )


def topic_facts(draw: Draw, count: int) -> Section:
    """Common facts about the house: address, Wi-Fi, check-in, parking."""
    records = tuple((fact,) for fact in draw_topics(draw, count))
    return Section(
        "topic",
        ("General information", "Information", "Visitor information", "Contact", "About us", "At a glance"),
        records,
    )


MAKERS: dict[str, Callable[[Draw, int], Section]] = {
    "facility": facilities, "ticket": tickets, "good": goods, "person": people, "event": events, "hall": halls,
    "departure": departures, "service": services, "exhibit": exhibits, "phone": phones, "mixed": mixed, "contact": contacts, "doctor": doctors, "key": key_facts, "topic": topic_facts,
}  # fmt: skip
WEIGHTS = {
    "facility": 14, "ticket": 8, "good": 9, "person": 13, "event": 12, "hall": 6, "departure": 6, "service": 7, "exhibit": 5,
    "phone": 5, "mixed": 12, "contact": 7, "doctor": 4, "key": 14, "topic": 16,
}  # fmt: skip


def venue_name(draw: Draw) -> Thing:
    """The house that the sheet is about."""
    rng = draw.rng
    kind = rng.choice(nouns.VENUE_TYPES)
    name = draw.proper()
    pattern = rng.choice(
        (
            "{n} {k}",
            "{n} {k}",
            "{n} {k}",
            "{k} {n}",
            "{n} City {k}",
            "St. {n} {k}",
            "{n} & {m} {k}",
            "{k} of {n}",
            "Old {n} {k}",
            "{n}",
        )
    )
    full = pattern.format(n=name, m=draw.proper(), k=kind)
    the = "the " if pattern not in ("{n}", "{k} {n}", "{n} & {m} {k}") and rng.random() < 0.8 else ""
    return Thing((full, upper_first(kind).lower()), the)
