"""Values that the detectors look for, made by algorithm: each function gives the secret, and how somebody might write it."""
# ruff: noqa: E501, SIM905 - templates and lists of words read better unbroken

from __future__ import annotations

import base64
import string
from typing import TYPE_CHECKING

from hybridllm.detectors import id_checks
from hybridllm.detectors.iban import IBAN_LENGTHS
from hybridllm.detectors.passport import check_digit
from hybridllm.detectors.payment_card import luhn

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

__all__ = ["ALNUM", "MAKERS", "birth_date", "digits", "grouped", "iban", "letters", "payment_card", "until"]

_FIRST_NAMES = "anna ben clara david elif farid grace hugo ines jonas katja liam mei noah olga pablo".split()
_LAST_NAMES = (
    "adler brook castillo dubois ericson fischer garcia hansen ivanova jensen kowalski lindqvist moreau".split()
)


def digits(random: Random, count: int) -> str:
    return "".join(random.choices(string.digits, k=count))


def letters(random: Random, count: int, alphabet: str = string.ascii_uppercase) -> str:
    return "".join(random.choices(alphabet, k=count))


def until(make: Callable[[], str], passes: Callable[[str], bool]) -> str:
    """The first of many drafts that passes a check."""
    while not passes(draft := make()):
        pass
    return draft


def grouped(text: str, sizes: tuple[int, ...], separator: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return separator.join(part for part in (*parts, text[at:]) if part)


def payment_card(random: Random) -> tuple[str, str]:
    prefix, length, sizes = random.choice([
        ("4", 16, (4, 4, 4)), ("51", 16, (4, 4, 4)), ("55", 16, (4, 4, 4)), ("2400", 16, (4, 4, 4)), ("34", 15, (4, 6)),
        ("37", 15, (4, 6)), ("36", 14, (4, 6)), ("6011", 16, (4, 4, 4)), ("65", 16, (4, 4, 4)), ("3540", 16, (4, 4, 4)),
        ("62", 16, (4, 4, 4)), ("62", 19, (4, 4, 4, 4)), ("2201", 16, (4, 4, 4)), ("6759", 16, (4, 4, 4)),
    ])  # fmt: skip
    number = until(lambda: prefix + digits(random, length - len(prefix)), luhn)
    return number, grouped(number, sizes, random.choice(" -.")) if random.random() < 0.6 else number


def iban(random: Random) -> tuple[str, str]:
    country = random.choice(sorted(IBAN_LENGTHS))
    count = {"GB": 4, "NL": 4, "IE": 4, "MT": 4, "GI": 4, "LV": 4}.get(country, 0)
    body = letters(random, count) + digits(random, IBAN_LENGTHS[country] - 4 - count)
    value = "".join(str(int(character, 36)) for character in f"{body}{country}00")
    iban = f"{country}{98 - int(value) % 97:02}{body}"
    written = grouped(iban, (4,) * 8, random.choice(" -")) if random.random() < 0.6 else iban
    return iban, written.lower() if random.random() < 0.15 else written


def _email(random: Random) -> tuple[str, str]:
    first, last = random.choice(_FIRST_NAMES), random.choice(_LAST_NAMES)
    local = random.choice(
        ["{f}.{l}", "{f}_{l}", "{f}{n}", "{f}.{l}+news", "{f[0]}{l}", "{f}-{l}.{n}", "{l}%{f}"]
    ).format(f=first, l=last, n=random.randrange(10, 99))
    domain = random.choice(
        ["example.com", "mail.example.org", "example.co.uk", "uni-beispiel.de", "ejemplo.es", "exemple.fr", "example.com.br",
         "firma.example", "beispiel.museum", "xn--bcher-kva.example"]
    )  # fmt: skip
    if random.random() < 0.16:
        local = random.choice([
            "müller", "jürgen.weiß", "łukasz", "øyvind_næss", "renée-dupré", "josé.nuñez{n}", "żaneta+news", "пользователь", "иван.{n}",
            "παράδειγμα", "संपर्क", "用户", "用户{n}", "山田.太郎", "مستخدم",
        ]).format(n=random.randrange(10, 99))  # fmt: skip
        if random.random() < 0.6:
            domain = random.choice(
                "例子.公司 пример.рф bücher.example post.münchen.example παράδειγμα.ελ डाटामेल.भारत مثال.شبكة".split()
            )
    address = f"{local}@{domain}"
    return address, address.upper() if random.random() < 0.05 else address


def _phone(random: Random) -> tuple[str, str]:
    def make(pattern: str) -> str:
        return "".join(
            str(random.randrange(2, 9)) if character == "N" else digits(random, 1) if character == "D" else character
            for character in pattern
        )

    written = make(random.choice([
        "+49 30 NDDDDDD", "+49 (0)30 NDDDDDD", "+4915DNDDDDDDD", "0049 89 NDDDDDD", "+44 20 7NDD DDDD", "+44 7NDD DDDDDD",
        "+1 (NDN) NDN-DDDD", "+1-NDN-NDN-DDDD", "+1NDNNDNDDDD", "+33 6 ND DD DD DD", "+33 (0)1 ND DD DD DD", "+86 13D DDDD DDDD",
        "+86 15DDDDDDDDD", "+81 90-NDDD-DDDD", "+82 10-NDDD-DDDD", "+91 98DDD DDDDD", "+55 11 9NDDD-DDDD", "+39 06 NDDD DDDD",
        "+34 6DD DDD DDD", "+31 6 NDDDDDDD", "+41 79 NDD DD DD", "+7 9DD NDD-DD-DD", "+351 91D DDD DDD", "+971 50 NDD DDDD",
        "13DDDDDDDDD", "15D DDDD DDDD", "18D-DDDD-DDDD", "17DDDDDDDDD", "010-NDDDDDDD", "0755-NDDDDDDD",
        "(NDN) NDN-DDDD", "NDN-NDN-DDDD", "NDN.NDN.DDDD", "NDN NDN DDDD", "1-NDN-NDN-DDDD",
        "06 ND DD DD DD", "01.ND.DD.DD.DD", "090-NDDD-DDDD", "020 7NDD DDDD", "07NDD NDDDDD",
    ]))  # fmt: skip
    if random.random() < 0.15:
        written = f"{random.choice(['Tel. ', 'phone: ', 'Telefon ', 'mobile number is ', '电话：', 'tél : '])}0{make('NDD NDDDDD')}"
    start = next(at for at, character in enumerate(written) if character in string.digits + "+(")
    return written[start:], written


def birth_date(random: Random) -> tuple[str, str, str]:
    return f"{random.randrange(0, 100):02}", f"{random.randrange(1, 13):02}", f"{random.randrange(1, 29):02}"


def _national_id(random: Random) -> tuple[str, str]:
    year, month, day = birth_date(random)
    born = random.choice(["19", "20"]) + year
    ymd, dmy = year + month + day, day + month + year

    def ending(start: str, count: int, passes: Callable[[str], bool], last: str = string.digits) -> str:
        return until(lambda: start + digits(random, count - 1) + random.choice(last), passes)

    country = random.choice(sorted(_COUNTRIES))
    match country:
        case "china":
            number = ending(f"{random.choice(['11', '31', '44', '51'])}{digits(random, 4)}{born}{month}{day}", 4, id_checks.china,
                            string.digits + "X")  # fmt: skip
            return number, random.choice(
                [number, grouped(number, (6, 8), " "), grouped(number, (6, 8), "-"), number.lower()]
            )
        case "united_states":
            number = until(lambda: digits(random, 9), id_checks.united_states)
            return number, grouped(number, (3, 2), random.choice("- "))
        case "spain":
            number = ending(digits(random, 8), 1, id_checks.spain, "TRWAGMYFPDXBNJZSQVHLCKE")
            return number, random.choice(
                [number, f"{number[:8]}-{number[8]}", f"{number[:2]}.{number[2:5]}.{number[5:8]}-{number[8]}"]
            )
        case "spain_nie":
            number = ending(random.choice("XYZ") + digits(random, 7), 1, id_checks.spain, "TRWAGMYFPDXBNJZSQVHLCKE")
            return number, random.choice([number, f"{number[0]}-{number[1:8]}-{number[8]}"])
        case "italy":
            start = f"{letters(random, 6)}{year}{random.choice('ABCDEHLMPRST')}{day}{random.choice('ABCDEFGHIL')}{digits(random, 3)}"
            number = until(lambda: start + letters(random, 1), id_checks.italy)
            return number, random.choice([number, number.lower()])
        case "france":
            number = ending(f"{random.choice('12')}{year}{month}{random.choice(['75', '13', '69', '33'])}{digits(random, 6)}", 2,
                            id_checks.france)  # fmt: skip
            return number, random.choice([number, grouped(number, (1, 2, 2, 2, 3, 3), " ")])
        case "germany":
            number = until(lambda: digits(random, 11), id_checks.germany)
            return number, random.choice([number, grouped(number, (2, 3, 3), " ")])
        case "poland":
            return _twice(ending(ymd, 5, id_checks.poland))
        case "netherlands":
            number = until(lambda: digits(random, 9), id_checks.netherlands)
            return (
                number,
                f"{random.choice(['BSN', 'BSN:', 'burgerservicenummer'])} {random.choice([number, grouped(number, (4, 2), '.')])}",
            )
        case "brazil":
            number = ending(digits(random, 9), 2, id_checks.brazil)
            return number, random.choice([number, f"{grouped(number[:9], (3, 3), '.')}-{number[9:]}"])
        case "india":
            number = until(lambda: digits(random, 12), id_checks.india)
            return number, random.choice(
                [grouped(number, (4, 4), " "), grouped(number, (4, 4), "-"), f"Aadhaar {number}"]
            )
        case "korea":
            number = ending(f"{ymd}{random.choice('1234')}", 6, id_checks.korea)
            return number, f"{number[:6]}-{number[6:]}"
        case "taiwan":
            return _twice(ending(letters(random, 1) + random.choice("12"), 8, id_checks.taiwan))
        case "hong_kong":
            number = ending(
                letters(random, random.choice([1, 2])) + digits(random, 6),
                1,
                id_checks.hong_kong,
                string.digits + "A",
            )
            return number, f"{number[:-1]}({number[-1]})"
        case "singapore":
            return _twice(
                ending(random.choice("STFG") + digits(random, 7), 1, id_checks.singapore, string.ascii_uppercase)
            )
        case "sweden":
            number = ending(ymd, 4, id_checks.sweden)
            return random.choice([(number, f"{ymd}-{number[6:]}"), (number, f"{born[:2]}{ymd}-{number[6:]}")])
        case "finland":
            number = ending(dmy + random.choice("-A") + digits(random, 3), 1,
                            lambda draft: id_checks.finland(draft.replace("-", "")), "0123456789ABCDEFHJKLMNPRSTUVWXY")  # fmt: skip
            return number.replace("-", ""), number
        case "norway":
            number = ending(dmy, 5, id_checks.norway)
            return number, random.choice([number, f"{number[:6]} {number[6:]}"])
        case "belgium":
            number = ending(ymd, 5, id_checks.belgium)
            return number, random.choice([number, f"{year}.{month}.{day}-{number[6:9]}.{number[9:]}"])
        case "turkey":
            return _twice(until(lambda: digits(random, 11), id_checks.turkey))
        case "switzerland":
            number = ending("756" + digits(random, 9), 1, id_checks.switzerland)
            return number, random.choice([number, grouped(number, (3, 4, 4), ".")])
        case "romania":
            return _twice(ending(f"{random.choice('1256')}{ymd}{random.randrange(1, 47):02}", 4, id_checks.romania))
        case "south_africa":
            number = ending(f"{ymd}{digits(random, 4)}{random.choice('01')}8", 1, id_checks.south_africa)
            return number, random.choice([number, grouped(number, (6, 4), " ")])
        case "thailand":
            number = until(lambda: digits(random, 13), id_checks.thailand)
            return number, grouped(number, (1, 4, 5, 2), "-")
        case "russia":
            number = until(lambda: digits(random, 11), id_checks.russia)
            return number, f"{grouped(number[:9], (3, 3), '-')} {number[9:]}"
        case "chile":
            number = ending(digits(random, 8), 1, id_checks.chile, string.digits + "K")
            return number, f"{number[:2]}.{number[2:5]}.{number[5:8]}-{number[8]}"
        case "mexico":
            start = f"{letters(random, 4)}{ymd}{random.choice('HM')}{letters(random, 2)}{letters(random, 3, 'BCDFGHJKLMNP')}0"
            return _twice(ending(start, 1, id_checks.mexico))
        case "czechia":
            number = ending(ymd, 4, id_checks.czechia)
            return number, f"{number[:6]}/{number[6:]}"
        case "united_kingdom":
            number = until(lambda: letters(random, 2, "ABCEGHJKLMNPRSTWXYZ") + digits(random, 6) + random.choice("ABCD"),
                            id_checks.united_kingdom_nino)  # fmt: skip
            return number, random.choice([number, grouped(number, (2, 2, 2, 2), " ")])
        case _:
            number = until(lambda: digits(random, 9), id_checks.canada)
            return number, f"SIN {grouped(number, (3, 3), random.choice(' -'))}"


_COUNTRIES = (
    "belgium brazil canada chile china czechia finland france germany hong_kong india italy korea mexico netherlands norway poland "
    "romania russia singapore south_africa spain spain_nie sweden switzerland taiwan thailand turkey united_kingdom united_states"
).split()


def _twice(number: str) -> tuple[str, str]:
    return number, number


def _passport(random: Random) -> tuple[str, str]:
    last, first = letters(random, random.randrange(4, 10)), letters(random, random.randrange(3, 9))
    country, sex = random.choice(["UTO", "D<<", "FRA", "USA", "CHN", "GBR"]), random.choice("MF<")
    number = (
        (letters(random, 2) + digits(random, 7)) if random.random() < 0.5 else letters(random, 1) + digits(random, 8)
    )
    born, until = ("".join(birth_date(random)) for _ in range(2))
    head, tail = f"{number}{check_digit(number)}", f"{born}{check_digit(born)}{sex}{until}{check_digit(until)}"
    name = f"{last}<<{first}"
    match random.choice(["TD3", "TD3", "TD2", "TD1"]):
        case "TD3":
            optional = "<" * 14
            line = f"{head}{country}{tail}{optional}{check_digit(optional)}"
            lines = [f"P<{country}{name}".ljust(44, "<"), line + check_digit(line[:10] + line[13:20] + line[21:43])]
        case "TD2":
            line = f"{head}{country}{tail}{'<' * 7}"
            lines = [f"I<{country}{name}".ljust(36, "<"), line + check_digit(line[:10] + line[13:20] + line[21:35])]
        case _:
            upper, lower = f"I<{country}{head}".ljust(30, "<"), f"{tail}{country}".ljust(29, "<")
            composite = check_digit(upper[5:30] + lower[:7] + lower[8:15] + lower[18:29])
            lines = [upper, lower + composite, name.ljust(30, "<")]
    return number, random.choice(["\n", "\n", " ", ""]).join(lines)


ALNUM = string.ascii_letters + string.digits


def _api_key(random: Random) -> tuple[str, str]:
    def text(count: int, alphabet: str = ALNUM) -> str:
        return letters(random, count, alphabet)

    hexadecimal, loose = "0123456789abcdef", ALNUM + "_-"
    segment = base64.urlsafe_b64encode(random.randbytes(60)).decode().rstrip("=")
    kind = random.randrange(20)
    known = [
        f"sk-{text(48)}", f"sk-proj-{text(60, loose)}", f"sk-ant-api03-{text(80, loose)}", f"AKIA{text(16, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567')}",
        f"ghp_{text(36)}", f"github_pat_{text(22)}_{text(59)}", f"glpat-{text(20)}",
        f"xoxb-{digits(random, 12)}-{digits(random, 12)}-{text(24)}", f"AIza{text(35)}", f"hf_{text(34)}",
        f"sk_live_{text(24)}", f"SG.{text(22)}.{text(43)}", f"npm_{text(36)}", f"dapi{text(32, hexadecimal)}",
        f"eyJ{text(30)}.eyJ{text(60)}.{segment[:43]}",
    ]  # fmt: skip
    if kind < len(known):
        return _twice(known[kind])
    value = random.choice(
        [text(32), text(40, hexadecimal), text(24), text(43, loose), base64.b64encode(random.randbytes(32)).decode()]
    )
    if kind == 15:
        return value, f"Authorization: Bearer {value}"
    if kind == 16:
        password = text(6, string.ascii_letters) + text(4, string.digits) + random.choice("!#%&*")
        return password, random.choice(
            ["password: {}", "PASSWORD={}", "my password is {}", "das Passwort ist {}", "密码是{}"]
        ).format(password)
    if kind == 17:
        password = text(12)
        return password, f"postgres://app:{password}@db.example.com:5432/main"
    return value, random.choice(
        [
            "api_key = '{}'",
            'API_KEY="{}"',
            '"secret": "{}"',
            "export ACCESS_TOKEN={}",
            "client_secret: {}",
            "my api key is {}",
        ]
    ).format(value)


def _private_key(random: Random) -> tuple[str, str]:
    body = base64.b64encode(random.randbytes(random.choice([120, 600, 1200]))).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    kind = random.choice(
        [
            "RSA PRIVATE KEY",
            "PRIVATE KEY",
            "EC PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "PGP",
            "JWK",
            "age",
        ]
    )
    if kind == "JWK":
        value = base64.urlsafe_b64encode(random.randbytes(32)).decode().rstrip("=")
        return value, f'{{"kty": "EC", "crv": "P-256", "x": "{letters(random, 43, ALNUM)}", "d": "{value}"}}'
    if kind == "age":
        return _twice(f"AGE-SECRET-KEY-1{letters(random, 58, 'QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L')}")
    if kind == "PGP":
        return body, f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{lines}\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----"
    if random.random() < 0.2:
        lines = lines.replace("\n", "\\n")
        return body, f"-----BEGIN {kind}-----\\n{lines}\\n-----END {kind}-----\\n"
    return body, f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"


MAKERS: dict[str, Callable[[Random], tuple[str, str]]] = {
    "payment_card": payment_card,
    "iban": iban,
    "national_id": _national_id,
    "passport": _passport,
    "email": _email,
    "phone": _phone,
    "api_key": _api_key,
    "private_key": _private_key,
}
