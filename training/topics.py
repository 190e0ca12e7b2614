"""Facts that many houses have, with the many ways to ask for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from training import keys
from training import wordlists as words
from training.attributes import Attribute
from training.facts import Fact, Thing
from training.phrasings import Phrasings, phrasings

if TYPE_CHECKING:
    from training.lexicon import Draw


@dataclass(frozen=True)
class Topic:
    """One topic: its names in sheets, the kind of its value, and an attribute that holds the wordings."""

    names: tuple[str, ...]
    source: str
    attribute: Attribute


def _topic(names: str, source: str, asks: str, clauses: str, answer: str, prose: str) -> Topic:
    forms = tuple(part.strip() for part in names.split("|"))

    # Whoever asks may simply use one of the names: "What's the check-out?", "wifi password please".
    plain = "|".join(dict.fromkeys(form.lower() if form[1:].islower() else form for form in forms))
    asks += (
        f" ; (What is|What's|Tell me|I need|Give me|Do you have|I'm looking for|May I know) the ({plain})(| please| here)?"
        f" ; ({plain})(|?| please| please?)"
    )

    def lines(text: str) -> Phrasings:
        return phrasings(text.replace(" ; ", "\n"))

    attribute = Attribute(
        forms[0], KINDS.get(source, source), forms, lines(asks), lines(clauses), lines(""), (answer,), lines(prose)
    )
    return Topic(forms, source, attribute)


KINDS = {
    "address": "address",
    "website": "website",
    "line": "line",
    "age": "age",
    "stop": "name",
    "network": "name",
    "days": "day",
}

TOPICS = (
    _topic("Address|Our address|Location|Street address", "address",
           "What is your address? ; What's the address? ; Where are you located? ; Which street are you in? ; What is the exact address? ; "
           "Where is this place? ; I need your address for the taxi. ; address? ; Under what address do I find you? ; * In what street are you?",
           "the address ; what your address is ; where you are located ; * in what street you are", "The address is {v}.",
           "Our address is {v}. ; You find us at {v}. ; We are located at {v}. ; * Come and see us at {v}."),
    _topic("Phone|Telephone|Main phone|Tel.|Phone number", "phone",
           "What is your phone number? ; How can I call you? ; What's the telephone number? ; Can I call you? ; Do you have a phone number? ; "
           "Your phone number, please. ; phone number? ; Under which number can I call? ; * By which number do I reach you?",
           "the phone number ; what your phone number is ; how to call us ; * under which number to call", "The phone number is {v}.",
           "You can call us at {v}. ; Our phone number is {v}. ; Call {v} for information. ; * Ring us on {v}."),
    _topic("Email|E-mail|Mail|Email address", "email",
           "What is your email address? ; How can I email you? ; Do you have an e-mail? ; Where can I write to you? ; email? ; "
           "What's the email? ; To what address can I send an e-mail? ; * May I have your mail address?",
           "the email address ; what your email address is ; * to what address to send an e-mail", "The email address is {v}.",
           "You can write to us at {v}. ; Our email address is {v}. ; * Send us a mail: {v}."),
    _topic("Website|Web|Homepage|Internet", "website",
           "What is your website? ; Do you have a website? ; What's the web address? ; Where can I find you online? ; website? ; "
           "On which page are you on the internet? ; * What is your homepage?",
           "the website ; what our website is ; * where you find us on the internet", "The website is {v}.",
           "Our website is {v}. ; Find us online at {v}. ; * Visit {v} on the internet."),
    _topic("Wi-Fi network|WiFi|Wi-Fi|WLAN|Wi-Fi name|Wireless network", "network",
           "What is the Wi-Fi called? ; What's the name of the WiFi? ; Which Wi-Fi network can I use? ; Do you have WiFi? ; Is there Wi-Fi? ; "
           "Which wifi do I use? ; To which network do I connect? ; * What is the wireless network?",
           "the name of the Wi-Fi ; which Wi-Fi network to use ; * to which network to connect", "The Wi-Fi network is {v}.",
           "Our Wi-Fi network is {v}. ; Use the Wi-Fi {v}. ; * Connect to the network {v}."),
    _topic("Wi-Fi password|WiFi password|WLAN password|Wi-Fi code|Wi-Fi key", "code",
           "What is the Wi-Fi password? ; What's the wifi password? ; How do I log in to the Wi-Fi? ; Password for the WiFi? ; "
           "I need the password for the internet. ; wifi password? ; Can I have the Wi-Fi code? ; With what password do I get online? ; (Give me|I need|Tell me|May I have|What is|Could I get) the (key|code|password|login) (of|for) the (WLAN|WiFi|Wi-Fi|wireless|internet)(| please)? ; * Give me the WLAN key.",
           "the Wi-Fi password ; what the password of the Wi-Fi is ; * with what password you get online", "The Wi-Fi password is {v}.",
           "The Wi-Fi password is {v}. ; Log in to the Wi-Fi with {v}. ; * Use {v} as password for the Wi-Fi."),
    _topic("Parking|Parking spaces|Where to park|Car park", "place",
           "Where can I park? ; Is there parking? ; Where do I park my car? ; Do you have parking? ; Where can I leave my car? ; parking? ; "
           "Where is it possible to park? ; (Where|In which place) (can|could|should|may|shall) (I|we|one) (put|leave|set down|stop with) (the|our|a|my) (car|van|vehicle)(| please)? ; * Where do I put my car?",
           "where you can park ; where to park ; * where it is possible to park", "You can park {v}.",
           "You can park {v}. ; Parking is available {v}. ; Park your car {v}. ; * There is space for cars {v}."),
    _topic("Parking fee|Parking costs|Parking price", "money",
           "How much is parking? ; What does parking cost? ; How much do I pay for parking? ; Is parking free? ; What is the parking fee? ; "
           "(How much|How expensive) is (parking|it to park|the parking|the car park)(| here| please)? ; (What|How much) (do|must|will) I pay (to park|for parking|for my car)(| here| please)? ; "
           "What do you charge for parking? ; * What does it cost to leave my car?",
           "how much parking is ; what parking costs ; * what you charge for parking", "Parking costs {v}.",
           "Parking costs {v}. ; You pay {v} for parking. ; The parking fee is {v}. ; * For parking we charge {v}."),
    _topic("Founded|Year of foundation|Since|Established|Opened in", "year",
           "When was it founded? ; How old is this place? ; In which year was it opened? ; When did it open for the first time? ; Since when does it exist? ; "
           "What is the founding year? ; * In what year did it all begin?",
           "when it was founded ; the year of foundation ; * in what year it began", "It was founded in {v}.",
           "We were founded in {v}. ; The house was established in {v}. ; We have been here since {v}. ; * It all began in {v}."),
    _topic("Bus line|Bus|Getting here by bus|Bus lines", "line",
           "Which bus goes here? ; How do I get here by bus? ; Which bus do I take? ; What bus line stops here? ; Can I come by bus? ; "
           "What bus brings me to you? ; * By which bus do I come?",
           "which bus goes here ; which bus to take ; * what bus brings you here", "You can take bus {v}.",
           "Take bus {v}. ; Bus {v} stops in front of the house. ; * The bus to us is {v}."),
    _topic("Nearest stop|Stop|Nearest station|Public transport", "stop",
           "Which stop is the nearest? ; Where do I get off? ; What is the nearest station? ; At which stop do I get out? ; "
           "What is the closest stop? ; * Which station is close to you?",
           "which stop is the nearest ; where to get off ; * the closest stop", "The nearest stop is {v}.",
           "The nearest stop is {v}. ; Get off at {v}. ; * The closest station is {v}."),
    _topic("Last admission|Last entry|Last entrance", "time",
           "When is the last admission? ; Until when can I still come in? ; What time is last entry? ; How late can I enter? ; "
           "What is the latest time to come in? ; * Up to what time do you let people in?",
           "when the last admission is ; until when you can come in ; * the latest time to come in", "The last admission is at {v}.",
           "The last admission is at {v}. ; You can enter until {v}. ; * We let people in up to {v}."),
    _topic("Check-in|Check-in from|Check in", "time",
           "When is check-in? ; From when can I check in? ; What time is check-in? ; How early can I get my room? ; When can I check in? ; "
           "From what hour is my room ready? ; * What is the check-in time?",
           "when check-in is ; from when you can check in ; * from what hour rooms are ready", "Check-in is from {v}.",
           "Check-in is from {v}. ; You can check in from {v}. ; Rooms are ready at {v}. ; * Your room is yours from {v}."),
    _topic("Check-out|Check-out until|Check out", "time",
           "When is check-out? ; Until when do I have to check out? ; What time is checkout? ; When do I have to leave the room? ; "
           "By what hour must I leave my room? ; * What is the check-out time?",
           "when check-out is ; until when you have to check out ; * by what hour to leave the room", "Check-out is until {v}.",
           "Check-out is until {v}. ; Please check out by {v}. ; * Leave your room by {v}."),
    _topic("Minimum age|Age limit|From age", "age",
           "What is the minimum age? ; From what age can children come? ; How old do you have to be? ; Is there an age limit? ; "
           "At what age may one come in? ; * How young is too young?",
           "the minimum age ; how old you have to be ; * at what age one may come in", "The minimum age is {v}.",
           "The minimum age is {v}. ; You must be at least {v} years old. ; * Visitors must be {v} or older."),
    _topic("Emergency number|In an emergency|Emergency", "phone",
           "What is the emergency number? ; Whom do I call in an emergency? ; What number do I call in an emergency? ; There is an emergency, who can I call? ; "
           "Which number is for emergencies? ; * What do I dial in an emergency?",
           "the emergency number ; what number to call in an emergency ; * what to dial in an emergency", "In an emergency, call {v}.",
           "In an emergency, call {v}. ; The emergency number is {v}. ; * For emergencies dial {v}."),
    _topic("Booking phone|Reservations|Bookings|To book", "phone",
           "How can I book a table? ; What number do I call for a reservation? ; How do I make a reservation? ; How can I book? ; "
           "Under which number can I reserve? ; * How do I place a booking?",
           "how to book ; the number for reservations ; * under which number to reserve", "For reservations, call {v}.",
           "For reservations, call {v}. ; Bookings by phone: {v}. ; * Reserve under {v}."),
    _topic("Loan period|Borrowing time|Lending period", "duration",
           "How long can I keep a book? ; How long is the loan period? ; For how long can I borrow books? ; When do I have to bring the book back? ; "
           "For what time may I borrow a book? ; * How long may books stay with me?",
           "how long you can keep a book ; how long the loan period is ; * for what time you may borrow", "The loan period is {v}.",
           "The loan period is {v}. ; You can keep books for {v}. ; * Books may stay with you for {v}."),
    _topic("Waiting time|Average wait|Current waiting time", "duration",
           "How long do I have to wait? ; What is the waiting time? ; How long is the wait? ; How long is the queue? ; "
           "For how long will I be waiting? ; * What wait should I expect?",
           "how long the waiting time is ; how long you have to wait ; * what wait to expect", "The waiting time is {v}.",
           "The waiting time is {v}. ; Please expect to wait {v}. ; * The wait is {v} at present."),
    _topic("Late fee|Overdue fine|Fine for late return", "money",
           "What happens if I return a book late? ; How much is the late fee? ; What do I pay if I am late? ; How high is the fine? ; "
           "What is the penalty for being late? ; * How much is charged for lateness?",
           "how much the late fee is ; what you pay if you are late ; * the penalty for being late", "The late fee is {v}.",
           "The late fee is {v}. ; If you are late, you pay {v}. ; * Being late costs {v}."),
    _topic("Dish of the day|Today's special|Daily special|Lunch special", "dish",
           "What is the dish of the day? ; What's today's special? ; What's for lunch today? ; What can I eat today? ; "
           "What is the kitchen serving today? ; * What is cooked today?",
           "the dish of the day ; what today's special is ; * what is cooked today", "The dish of the day is {v}.",
           "The dish of the day is {v}. ; Today's special is {v}. ; * The kitchen serves {v} today."),
    _topic("Rest day|Closing day|Closed on|Day off", "days",
           "Which day are you closed? ; What is your rest day? ; On which day is it closed? ; When are you closed? ; "
           "What day of the week do you rest? ; * On what day is nobody here?",
           "which day we are closed ; the rest day ; * what day we rest", "The rest day is {v}.",
           "We are closed on {v}. ; Our rest day is {v}. ; * On {v} we rest."),
    _topic("Free admission|Free entry|Free day", "days",
           "When is entry free? ; Is there a free day? ; On which day is admission free? ; Which day is free? ; "
           "What day can I come in without paying? ; * On what day is it free of charge?",
           "when entry is free ; on which day admission is free ; * what day is free of charge", "Admission is free on {v}.",
           "Admission is free on {v}. ; On {v} entry is free. ; * You need not pay on {v}."),
    _topic("Architect|Built by|Designed by", "person",
           "Who is the architect? ; Who designed the building? ; Who built this house? ; "
           "By whom was the house built? ; * Whose design is this building?",
           "who designed the building ; the architect ; * by whom the house was built", "The architect is {v}.",
           "The building was designed by {v}. ; The architect was {v}. ; * {v} drew the plans of the house."),
    _topic("Founder|Founded by", "person",
           "Who founded it? ; Who is the founder? ; Who started this place? ; By whom was it founded? ; * Who brought it into being?",
           "who founded it ; the founder ; * by whom it was founded", "The founder is {v}.",
           "The founder is {v}. ; It was founded by {v}. ; * {v} brought it into being."),
    _topic("Number of floors|Floors|Storeys", "number",
           "How many floors are there? ; How many floors does the building have? ; How tall is the building? ; Of how many floors is the house? ; * What is the number of storeys?",
           "how many floors there are ; the number of floors ; * of how many floors the house is", "There are {v} floors.",
           "The building has {v} floors. ; There are {v} floors. ; * The house is of {v} floors."),
    _topic("Tour languages|Languages|Tours in", "language",
           "In which language are the tours? ; What languages do you offer? ; Which language is spoken on the tour? ; "
           "In what tongue is the tour? ; * What is the tour language?",
           "in which language the tours are ; which languages we offer ; * the tour language", "The tours are in {v}.",
           "Our tours are in {v}. ; We offer tours in {v}. ; * The tour language is {v}."),
    _topic("Next tour|Next guided tour|Tour starts", "time",
           "When is the next tour? ; When does the tour start? ; What time is the next guided tour? ; When can I join a tour? ; "
           "At what hour is the next tour? ; * When do we set off for the tour?",
           "when the next tour is ; when the tour starts ; * at what hour the next tour is", "The next tour is at {v}.",
           "The next tour starts at {v}. ; The next guided tour is at {v}. ; * At {v} we set off for the tour."),
    _topic("Meeting point|Where we meet|Tour meeting point", "place",
           "Where do we meet? ; Where is the meeting point? ; Where does the tour begin? ; Where should I be for the tour? ; * At what place do we come together?",
           "where we meet ; where the meeting point is ; * where to be for the tour", "The meeting point is {v}.",
           "We meet {v}. ; The meeting point is {v}. ; * Come together {v}."),
    _topic("Maximum stay|Parking limit|Time limit", "duration",
           "How long can I park? ; How long can I stay? ; What is the time limit? ; For how long may I stay? ; * What stay is allowed?",
           "how long you can stay ; the time limit ; * for how long you may stay", "You can stay for {v}.",
           "You can stay for {v}. ; The time limit is {v}. ; * A stay of {v} is allowed."),
    _topic("Price from|Room price|Rooms from|Price per night", "money",
           "How much is a night? ; How much does a room cost? ; What is the price per night? ; What do your rooms cost? ; What do you charge for a night? ; * How expensive is a night here?",
           "how much a night costs ; the price per night ; * what we charge for a night", "A night costs {v}.",
           "A night costs {v}. ; Rooms are {v} per night. ; * We charge {v} for a night."),
)  # fmt: skip


PARKING = next(topic for topic in TOPICS if topic.names[0] == "Parking")
PARKING_FEE = next(topic for topic in TOPICS if topic.names[0] == "Parking fee")


def draw_topic_value(draw: Draw, source: str) -> tuple[str, str]:
    """A topic's value: as printed, and as it stands in a sentence."""
    rng = draw.rng
    if source == "address":
        text = draw.address()
    elif source == "website":
        text = rng.choice(("www.", "www.", "", "https://")) + draw.domain()
    elif source == "line":
        text = draw.until(lambda: rng.choice(("", "", "M", "X", "N", "S")) + draw.digits(rng.choice((1, 2, 2, 3))))
    elif source == "age":
        text = str(rng.randint(3, 21))
    elif source == "stop":
        text = f"{draw.proper()} {rng.choice(words.STREETS)}"
    elif source == "network":
        text = keys.invented_name(draw)
    elif source == "dish":
        text = rng.choice(keys.MATERIALS[20:])
    elif source == "days":
        text = rng.choice(words.DAYS)
    elif source == "number":
        text = str(rng.randint(2, 40))
    else:
        return keys.draw_value(draw, source)
    return text, text


def draw_topics(draw: Draw, count: int) -> list[Fact]:
    """Some topics with their values; the printed name is one of the topic's names."""
    facts = []
    for topic in draw.rng.sample(TOPICS, min(count, len(TOPICS))):
        printed, phrase = draw_topic_value(draw, topic.source)
        name = draw.rng.choice(topic.names)
        facts.append(Fact(Thing((name,)), topic.attribute, printed, phrase, (printed,)))
    return facts
