"""Word lists behind the generated sheets: name parts, styles of writing values, places."""

from __future__ import annotations

ONSETS = (
    "b br bl c ch cl cr d dr f fl fr g gl gr h j k kl kr kv l m n p ph pl pr qu r rh s sc sh sk sl sm sn sp st str sv sw t "
    "th tr tw v vl w wh x y z zh"
).split()
SIMPLE_ONSETS = "b d f g h j k l m n p r s t v z l m n r s t k".split()
SIMPLE_NUCLEI = "a e i o u".split()
NUCLEI = "a a a e e e i i i o o o u u ae ai au ea ee ei eo ia ie io oa oi oo ou ue ui y".split()
CODAS = "b ck d f g k l ll m n n n nd ng nk nt p r r rd rk rm rn rt s s sk ss st t th v x z tz ld lm".split()
ENDINGS = "an el in or us ik ra na lo".split()
NAME_ENDINGS = (
    "son sen sson ski ska ova ov ev ez es ini elli etti berg mann stein er wood field worth ton ham ley escu idis opoulos "
    "yan ian shvili enko uk wala pur aga moto kawa oglu nen"
).split()
DIACRITICS = (
    ("a", "á"), ("a", "å"), ("a", "ä"), ("e", "é"), ("e", "è"), ("i", "í"), ("o", "ö"), ("o", "ó"), ("o", "ø"),
    ("u", "ü"), ("u", "ú"), ("n", "ñ"), ("c", "ç"), ("l", "ł"), ("s", "š"), ("z", "ž"),
)  # fmt: skip

FIRST_NAMES = (
    "Ada Adam Ahmed Aisha Akira Alan Alba Alice Amara Amir Ana Andrea Anika Anna Anton Aria Arjun Asha Astrid Ayumi Basil "
    "Beatriz Ben Bianca Boris Bruno Camille Carla Carlos Cecilia Chidi Chloe Clara Daniel Daria David Deepa Diego Dina "
    "Dmitri Dora Edith Eduardo Elena Elias Elif Emeka Emil Emma Erik Esther Eva Fatima Felix Fiona Flora Frank Freya Gabriel "
    "Gina Giulia Grace Greta Hana Hannah Hassan Heidi Helena Henrik Hiro Hugo Ian Ibrahim Ida Igor Ines Ingrid Irene Isaac "
    "Isabel Ivan Jack Jana Jasmine Javier Jean Joanna Johan Jonas Jorge Julia Julian Kaito Karim Karin Kate Kenji Khalid "
    "Kofi Lars Laura Layla Leo Leila Lena Liam Lina Linh Lionel Lucia Luis Luna Magda Mai Malik Mara Marco Margaret Maria "
    "Marta Martin Maya Mei Mia Miguel Mila Milan Mira Mohamed Nadia Naomi Nina Noah Nora Olga Oliver Omar Oscar Otto Pablo "
    "Paul Petra Pia Priya Quentin Rafael Rahul Raj Rana Rebecca Renata Rita Robert Rosa Ruth Samir Samuel Sanjay Sara Sofia "
    "Stefan Sunita Susan Sven Tala Tamara Tariq Teresa Theo Thomas Tina Tomas Uma Ursula Vera Victor Viktor Walter Wei "
    "Wilma Xavier Yara Yasmin Yuki Yusuf Zara Zoe"
).split()
LAST_NAMES = (
    "Abbott Adeyemi Aguilar Ahmad Akhtar Albrecht Alvarez Amin Andersson Baker Banerjee Barros Bauer Becker Bell Bennett "
    "Bianchi Blake Brandt Brown Byrne Campbell Carter Castillo Chan Chandra Chen Cho Choi Clarke Cohen Cole Costa Cruz "
    "Dahl Das Davies Delgado Diaz Dubois Duarte Eriksson Evans Farah Fernandez Ferrari Fischer Fontaine Foster Fuchs Garcia "
    "Ghosh Gomez Gray Green Gupta Haas Hall Hansen Harris Hassan Hayashi Hernandez Hill Hoffmann Holm Huang Hughes Ito "
    "Iyer Jackson Jansen Jensen Johnson Jones Joshi Kapoor Kaya Keller Khan Kim King Klein Kovacs Kowalski Kumar Kurz Lam "
    "Lang Larsen Lee Lehmann Leroy Lewis Lim Lindgren Lindqvist Lopez Lund Malik Marino Martin Mbeki Mehta Mendes Meyer "
    "Mills Molina Moreau Morgan Moretti Morris Mueller Murphy Nair Nakamura Ncube Nguyen Nielsen Novak Obi Okafor Okoye "
    "Olsen Ortiz Osei Park Parker Patel Pereira Perez Petrov Pham Pinto Popescu Price Quinn Rahman Ramirez Rao Reed Reyes "
    "Ricci Rivera Roberts Rossi Roy Russo Saito Sanchez Santos Sato Schmidt Schneider Schulz Sharma Silva Singh Smith "
    "Sokolov Stewart Suzuki Takeda Tan Tanaka Taylor Thomas Torres Tran Turner Varga Vega Vogel Wagner Walker Wang Ward "
    "Weber White Wilson Wong Wood Wright Yamada Yang Yilmaz Young Zhang Zhou Ziegler"
).split()

TIME_STYLES = ("09:00", "09:00", "09:00", "9:00", "9:00", "09.00", "09h00", "am", "am", "AM", "a.m.", "xam", "bare")
RANGE_STYLES = ("–", "–", " – ", "-", "-", " - ", " to ", " until ")
MONEY_STYLES = ("{s}{a}", "{s}{a}", "{a} {s}", "{a} {c}", "{a} {c}", "{c} {a}", "{a}{s}")
CURRENCIES = ("€|EUR", "€|EUR", "$|USD", "£|GBP", "CHF|CHF", "kr|SEK", "$|dollars", "€|euros", "¥|yuan", "₹|rupees")
FLOOR_STYLES = ("second", "second", "2nd", "2nd", "level", "floor", "Level", "Floor")
PHONE_STYLES = (
    "P-####", "P-####", "P ####", "P####", "+49 P ######", "+44 P ### ####", "(P) ###-####", "0P / ######", "P-###-####",
    "+1 P-###-####", "0P ## ## ##", "P.###.####", "+86 P #### ####", "01P-####-####",
)  # fmt: skip
ORDINALS = ("ground", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
GROUND_FLOORS = (("on the", "ground floor"), ("on the", "ground floor"), ("in the", "lobby"), ("on the", "main level"))
BASEMENTS = (("in the", "basement"), ("on the", "lower level"), ("in the", "basement"))
ROOM_WORDS = ("room", "room", "room", "Room", "Room", "hall", "Hall", "suite", "office", "studio")
BUILDING_WORDS = ("building", "Building", "wing", "Wing", "block", "hall", "zone", "terminal", "section")
AREAS = (
    "north wing", "south wing", "east wing", "west wing", "main hall", "entrance hall", "lobby", "courtyard", "garden",
    "new building", "old building", "annex", "atrium", "foyer", "inner courtyard", "main building", "tower",
)  # fmt: skip
RELATIONS = (
    "next to", "next to", "opposite", "behind", "in front of", "near", "beside", "across from", "left of", "right of",
    "to the left of", "to the right of", "just past", "close to", "under", "past", "by", "across", "close by", "outside", "inside", "above", "below", "between the entrance and",
)  # fmt: skip
LANDMARK_NOUNS = (
    "main entrance", "stairs", "staircase", "fountain", "statue", "big clock", "glass door", "side entrance", "ramp",
    "blue door", "red door", "escalator", "information board", "kiosk", "main gate", "flower bed", "old oak tree",
    "building", "house", "street", "cloakroom", "reception desk", "car park", "tower", "hotel", "school", "station", "park",
    "playground fence", "big tree", "red pillar", "window", "wall", "garage", "gate", "river", "lake", "square", "supermarket",
    "theatre", "cash desk", "ticket gates", "vending machines", "sofa", "aquarium wall", "globe", "skeleton", "lockers by the door",
    "notice board", "garden door", "service road", "petrol station", "police station", "market hall", "fire door", "mirror",
    "fish tank", "south exit", "north exit", "bridge", "bakery", "church", "post office", "town hall", "piano",
)  # fmt: skip
LANDMARKS = (
    "at the end of the corridor", "at the main entrance", "by the main entrance", "down the hall on the left",
    "down the hall on the right", "behind the first door on the left", "at the second door on the right", "behind the third door on the left",
    "in the far corner", "through the double doors", "at the top of the stairs", "at the bottom of the stairs",
    "around the corner", "at the back of the building", "facing the street", "on the left as you come in",
    "on the right as you come in", "along the blue line", "behind the yellow sign", "up the ramp",
)  # fmt: skip
STREETS = (
    "Street", "Street", "Road", "Avenue", "Lane", "Square", "Way", "Boulevard", "Place", "Drive", "Court", "Quay", "Alley",
)  # fmt: skip
DOMAIN_ENDINGS = (".org", ".com", ".net", ".example", ".info", ".eu", ".de", ".museum", ".edu", ".io", ".co.uk", ".cn")
COLOURS = ("red blue green yellow orange purple white black grey pink brown silver gold turquoise violet beige").split()
LANGUAGES = (
    "English German French Spanish Italian Portuguese Dutch Polish Turkish Arabic Russian Mandarin Japanese Korean Hindi "
    "Greek Swedish Czech Urdu Vietnamese"
).split()
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January February March April May June July August September October November December").split()
