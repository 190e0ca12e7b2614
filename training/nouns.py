"""Things that sheets speak of: facilities, goods, roles, events and so on, with the other words people use for them.

`a|b|c`: the sheet may print any of them and the question may use any other. A leading `~` marks a plural.
"""

from __future__ import annotations


def _forms(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(form.strip() for form in line.split("|")) for line in text.strip().splitlines() if line.strip())


FACILITIES = _forms("""
café|coffee shop|cafeteria|coffee bar
restaurant|dining room
bistro
canteen|mensa
snack bar
bar|hotel bar
~toilets|restrooms|bathrooms|washrooms|WC|loos
~accessible toilets|disabled toilets
lift|elevator
~stairs|staircase
gift shop|souvenir shop|museum shop
bookshop|bookstore
cloakroom|coat check|wardrobe
~lockers|storage lockers
information desk|info desk|information point
reception|front desk|reception desk
ticket office|ticket counter|box office
cash machine|ATM
car park|parking garage|parking lot
bike racks|bicycle stands
first aid room|first-aid station
baby changing room|nappy changing room
nursing room
prayer room|chapel
lost and found|lost property office
print shop|copy shop
copy machine|photocopier
swimming pool|pool
gym|fitness room|fitness centre
sauna
spa|wellness area
laundry room|laundry
conference room
lecture hall|auditorium
computer lab|PC room
reading room
children's library|kids' library
playground|play area
pharmacy
radiology department|X-ray department|X-ray
emergency room|A&E|emergency department
laboratory|blood lab
maternity ward
children's ward
surgery ward
waiting room|waiting area
taxi stand|taxi rank
bus stop
~luggage lockers
left luggage office|luggage storage
~charging stations|EV chargers
vending machine|drinks machine
drinking fountain|water fountain
roof terrace|rooftop terrace
herb garden
auditorium
theatre
cinema
planetarium
aquarium
sculpture garden
special exhibition
permanent collection
workshop room
seminar room
student office|student services
examination office|exam office
admissions office
dean's office
mail room|post room
bicycle workshop|bike repair
smoking area
quiet room|silent room
lounge
business centre|business center
meeting point
main exit
emergency exit
library
archive
music room
art studio
tennis court
ice rink
climbing wall
greenhouse
butterfly house
bakery
butcher|meat counter
flower shop|florist
shoe department
toy department|toys
electronics department
customer service|service desk
fitting rooms|changing rooms
hairdresser|hair salon
optician
dentist
physiotherapy|physio
vaccination centre|vaccination clinic
blood donation room
visa office
passport office|passport counter
registry office
town archive
tax office
housing office
recycling point
tool rental
ski rental
boat rental
security desk|security office
staff room
kitchen
ballroom
breakfast room
honeymoon suite
observation deck|viewing platform
whale hall
dinosaur hall
""")
PLURAL_FACILITIES = frozenset({"bike racks", "bicycle stands", "fitting rooms", "changing rooms", "toys"})

VISITORS = _forms("""
adults|adult visitors|grown-ups
children|kids
students|university students
seniors|pensioners|older visitors
families|a family
groups|a group
school classes|a school class
teenagers|teens
disabled visitors|visitors with a disability
members
residents|locals
unemployed visitors
apprentices
teachers
soldiers
toddlers
babies|infants
large families
couples
single parents
""")

AGED_VISITORS = (
    "children under {n}",
    "visitors over {n}",
    "children from {n}",
    "seniors over {n}",
    "people under {n}",
    "children up to {n}",
)

SPECIALTIES = _forms("""
eyes|eye problems
children|kids
general medicine
skin|skin problems
heart|heart problems
teeth|dental care
back pain
allergies
sports injuries
pregnancy
ears|hearing problems
bones|fractures
headaches
vaccinations
mental health
nutrition|diet
sleep problems
foot care
lungs|asthma
diabetes
travel medicine
""")

TICKET_ADJECTIVES = {
    "adults": "adult", "children": "child", "students": "student", "seniors": "senior", "families": "family", "groups": "group",
    "teenagers": "teen", "members": "member", "teachers": "teacher", "residents": "resident", "toddlers": "toddler",
    "pensioners": "pensioner", "kids": "kid", "school classes": "school class",
}  # fmt: skip

GOODS = _forms("""
audio guide|audioguide
guided tour|tour
day ticket|day pass
annual pass|yearly pass
monthly pass|monthly ticket
single ticket|one-way ticket
return ticket|round trip ticket
combined ticket|combi ticket
locker|locker rental
parking ticket|parking
towel|towel rental
bathrobe
breakfast|breakfast buffet
lunch menu|set lunch
dinner buffet
espresso
cappuccino
coffee|cup of coffee
tea|cup of tea
hot chocolate
mineral water|bottle of water
orange juice
lemonade
beer
glass of wine
sandwich
cheese sandwich
tomato soup
vegetable soup
green salad
pasta
pizza
veggie burger|vegetarian burger
burger
fish and chips
ice cream
apple pie
chocolate cake|slice of chocolate cake
croissant
fruit bowl
postcard
poster
catalogue|exhibition catalogue
tote bag
umbrella
key ring
mug
T-shirt
bike rental|bicycle rental
e-bike
boat trip
kayak
single room
double room|twin room
family room
suite
dormitory bed
airport shuttle|airport transfer
late checkout|late check-out
baby cot|cot
library card
photocopy|copy
colour print|color print
black-and-white print
book reservation
interlibrary loan
passport photo
passport|new passport
ID card
driving licence|driver's license
birth certificate
parking permit|resident parking permit
vaccination|flu shot
blood test
X-ray
dental cleaning
eye test
massage
haircut
beard trim
manicure
yoga class
swimming lesson
ski pass
ice skates
climbing shoes
phone charger
headphones
USB stick
adapter
city map|map
bread
milk
baguette
bunch of roses
sunflower bouquet
sim card
laundry token|washing token
dryer token
replacement key
replacement card|new card
registration
deposit
cleaning fee
""")
PLURAL_GOODS = frozenset({"ice skates", "climbing shoes", "headphones", "fish and chips"})

ROLES = _forms("""
director|head of the house
deputy director
manager|general manager
curator|head curator
head of security|security chief
receptionist
librarian|head librarian
archivist
head of education
press officer|press contact
event manager|events manager
shop manager
chef|head chef
head waiter
concierge
housekeeper|head of housekeeping
technician|house technician
caretaker|janitor
IT administrator|IT support|IT contact
accountant
HR manager|personnel manager
secretary|assistant
dean
professor of physics
professor of history
lecturer in chemistry
student advisor|study advisor
exam officer
lab manager
head nurse|chief nurse
midwife
cardiologist|heart specialist
paediatrician|pediatrician|children's doctor
dermatologist|skin doctor
neurologist
surgeon|chief surgeon
radiologist
dentist
eye doctor|ophthalmologist
physiotherapist
pharmacist
psychologist
general practitioner|family doctor
station master
ticket inspector
tour guide
conductor
pilot
captain
lifeguard
swimming teacher
yoga teacher|yoga instructor
fitness trainer|personal trainer
mayor
deputy mayor
registrar
data protection officer
safety officer|fire safety officer
first aider
gardener|head gardener
zookeeper
vet|veterinarian
store detective
baker
florist
tailor
optician
hairdresser
driver|bus driver
project manager
sales manager|head of sales
marketing manager
equality officer
chaplain|priest
principal|headteacher
maths teacher
music teacher
sports teacher
school nurse
treasurer
chairperson|chair
volunteer coordinator
""")

EVENT_TOPICS = (
    "Bats Bees Birds Bridges Castles Clouds Coins Comets Coral Dinosaurs Dragons Robots Volcanoes Whales Wolves Stars Glass "
    "Paper Silk Salt Chocolate Cheese Jazz Tango Salsa Yoga Pilates Zumba Chess Origami Pottery Poetry Calligraphy Sushi "
    "Photography Painting Drawing Printing Knitting Woodwork Gardening Beekeeping Astronomy Chemistry Physics Algebra "
    "Genetics Robotics Statistics Philosophy History Geology Opera Ballet Theatre Film Magic Puppets Trains Maps Ships Tea "
    "Bread Wine Honey Herbs Mushrooms Roses Orchids Butterflies Penguins Dolphins Sharks Horses Rivers Mountains Deserts"
).split()
EVENT_KINDS = (
    "Tour|Workshop|Concert|Lecture|Talk|Reading|Show|Class|Course|Film|Seminar|Exhibition|Market|Party|Meeting|Training|"
    "Quiz Night|Evening|Brunch|Festival|Demonstration|Rehearsal|Debate|Q&A|Walk|Contest|Tasting|Open Day|Session|Lab"
).split("|")
EVENT_STARTS = (
    "Introduction to {t}|{t} for Beginners|{t} for Kids|Advanced {t}|The Secret of {t}|{t} and {u}|World of {t}|Night of {t}|"
    "{t} {k}|{t} {k}|{t} {k}|{t} {k}|Family {k}|Guided {k}|Morning {k}|Evening {k}|{p} {k}|{p} {k}|The {p} {k}|Children's {k}|"
    "{t} with {p}|All About {t}|A Short History of {t}|Highlights {k}|Summer {k}|Winter {k}|{t} 101"
).split("|")
HALL_KINDS = (
    "Hall|Room|Suite|Lounge|Studio|Auditorium|Salon|Lab|Theatre|Gallery|Chamber|Pavilion|Meeting Room|Conference Room"
).split("|")
HALL_NAMES = (
    "Amber Atlas Aurora Birch Blue Cedar Cobalt Coral Crystal Delta Eagle East Einstein Elm Emerald Falcon Fir Galileo Garden "
    "Golden Green Harbour Horizon Iris Ivory Jade Jupiter Lake Linden Lotus Maple Marble Mars Mercury Mozart Neptune Newton "
    "North Oak Ocean Olive Opal Orion Panorama Pearl Phoenix Pine Red River Rose Ruby Saturn Silver South Summit Sunflower "
    "Swan Terrace Tulip Venus Vienna Violet West Willow Winter"
).split()
DESTINATIONS = (
    "Airport|City Centre|Central Station|University|Harbour|Zoo|Stadium|Old Town|Hospital|Beach|Museum Island|Trade Fair"
).split("|")
VEHICLES = "train|train|train|bus|bus|tram|ferry|shuttle|coach|express|boat".split("|")
WORKS = (
    "Sleeping|Red|Blue|Broken|Golden|Silent|Burning|Lost|Dancing|Frozen|Old|Young|Blind|Green|Last|First|Hidden|Winged|Black"
).split("|")
WORK_NOUNS = (
    "Lion|Fisherman|Tower|Queen|King|River|Garden|Bridge|Violin|Mirror|Horse|Moon|Harvest|Letter|Window|Bird|Child|Ship|"
    "Forest|Clock|Lamp|Mask|Shepherd|Storm|Wave|Chair|Crown|Gate|Orchard|Dancer|Meteorite|Sundial|Globe|Engine|Amphora"
).split("|")
SERVICES = _forms("""
passport renewal|passport application
residence registration|address registration
car registration
wedding registration
visa application
library tour
blood test
health check|check-up
flu vaccination
dental check-up
MRI scan
ultrasound scan
ear piercing
watch repair
phone repair
bike repair|bicycle repair
shoe repair
key cutting
dry cleaning
haircut
massage
facial|facial treatment
airport transfer
city tour
boat tour|boat trip
guided tour
audio tour
tasting menu
book binding
photo printing
document scanning
gift wrapping
home delivery
furniture assembly
eye examination|eye test
hearing test
swimming course
ski lesson|skiing lesson
climbing course
safety briefing
""")

VENUE_TYPES = (
    "Museum|Clinic|Hospital|Library|Hotel|Station|Campus|Gallery|Theatre|Cinema|Zoo|Aquarium|Pool|Gym|Bookshop|Supermarket|"
    "Bakery|Pharmacy|Town Hall|Community Centre|Science Centre|Conference Centre|Airport|Castle|Botanical Garden|Market|"
    "Mall|School|College|University|Restaurant|Café|Spa|Hostel|Dental Practice|Sports Centre|Visitor Centre|Music School|"
    "Planetarium|Garden Centre|Bike Shop|Art House|Cultural Centre|Medical Centre|Citizens' Office|Ferry Terminal"
).split("|")

POLICIES = _forms("""
dogs|Can I bring my dog?|Is my dog allowed in?|Can I come with a dog?|May my dog come in?
pets|Can I bring my cat?|Can I bring a pet?
photos|Can I take photos?|May I take pictures?|Is photography allowed?|Can I photograph here?
flash photos|Can I use the flash?|May I take pictures with flash?
food and drinks|Can I eat here?|May I bring my own food?|Can I bring food?|Can I bring drinks?
large bags|Can I take my big bag inside?|Can I bring a backpack?
prams|Can I bring a pram?|Can I come with a stroller?
bicycles|Can I bring my bike inside?|Can I take my bicycle in?
mobile phones|Can I use my phone?|May I make calls?
smoking|Can I smoke here?|May I smoke?
card payments|Can I pay by card?|Do you take credit cards?|Do you accept cards?
cash payments|Can I pay in cash?|Do you take cash?
refunds|Can I get a refund?|Can I get my money back?
walk-ins|Can I come without an appointment?|Do I need an appointment?
drones|Can I fly my drone here?
scooters|Can I ride my scooter here?
laptops|Can I use my laptop?
visitors under 16|Can a 15-year-old come in?
umbrellas|Can I take my umbrella inside?
music|Can I play music?
group bookings|Can I book for a group?
overnight guests|Can a guest stay overnight?
""")
SINGULAR_POLICIES = frozenset({"smoking", "music"})
CONDITIONS = (
    "on a leash|without flash|on weekdays only|in the courtyard only|with a permit|for an extra fee|on the ground floor only|"
    "outside the exhibition rooms|from Monday to Friday|if they are quiet|in the designated areas|with a valid ticket|"
    "after registration at the desk|until further notice|in the café only|accompanied by an adult"
).split("|")

FILLERS = (
    "We look forward to your visit.|Thank you for coming.|Please keep your ticket until you leave.|Have a pleasant stay!|"
    "Please be quiet in the corridors.|Follow the signs.|Welcome!|Children must be accompanied by an adult.|"
    "Please ask our staff if you need help.|All information without guarantee.|Changes are possible.|"
    "We wish you a nice day.|Please mind the step.|Please do not touch the objects.|We are a non-profit organisation.|"
    "In case of fire, use the stairs.|Please switch your phone to silent.|Our team is happy to help."
).split("|")
