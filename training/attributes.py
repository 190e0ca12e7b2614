"""All attributes under one name."""

from __future__ import annotations

from training.attribute import Attribute
from training.attributes_events import DAY, DEPARTURE, DURATION, HOST, MAKER, PLATFORM, START_TIME, YEAR
from training.attributes_people import CONTACT, EMAIL, FIELD, OFFICE, PERSON_PHONE, ROLE
from training.attributes_places import CAPACITY, LOCATION, OPEN, PHONE, VENUE
from training.attributes_prices import EVENT_PRICE, FREE_TICKET, PRICE, PRICE_TICKET

__all__ = [
    "CAPACITY",
    "CONTACT",
    "DAY",
    "DEPARTURE",
    "DURATION",
    "EMAIL",
    "EVENT_PRICE",
    "FIELD",
    "FREE_TICKET",
    "HOST",
    "LOCATION",
    "MAKER",
    "OFFICE",
    "OPEN",
    "PERSON_PHONE",
    "PHONE",
    "PLATFORM",
    "PRICE",
    "PRICE_TICKET",
    "ROLE",
    "START_TIME",
    "VENUE",
    "YEAR",
    "Attribute",
]
