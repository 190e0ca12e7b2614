"""How to reach a person: addresses of electronic mail, and telephone numbers."""
# ruff: noqa: SIM905 - lists of words read better unbroken

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.detectors.reading import Find, Reading

__all__ = ["find_emails", "find_phones"]

_LOCAL_ASCII = re.compile(r"[A-Za-z0-9_.%+'\-]+\Z")
_LOCAL_SIGNS = frozenset("_.%+'-")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,62})\.){1,8}([A-Za-z]{2,24}|xn--[a-z0-9\-]{2,59})(?![A-Za-z0-9_\-])"
)
_DOMAIN_SIGNS = frozenset("_.-")
# Scripts that write words without spaces between them, or with endings: Thai, Lao, Burmese, Khmer, Chinese, Japanese, Korean.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u318f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_IN_UNSPACED = re.compile(f"[{_UNSPACED}]")
# What stands before an address in such a text: up to the last place where another script follows. A few digits there are more likely
# to belong to a name; a number that is one (that of an account, as in 123456@qq.com) has five at least.
_PROSE = re.compile(rf".*[{_UNSPACED}](?=[^{_UNSPACED}_.%+'\-])(?![0-9]{{1,4}}\Z)")
_ADDRESS_LITERAL = re.compile(r"\[(?:[0-9]{1,3}\.){3}[0-9]{1,3}\]")
_LONGEST_LOCAL = 64
_LONGEST_DOMAIN, _LONGEST_LABEL, _MOST_LABELS = 255, 63, 9
# What stands after the last dot of file names and versions, as in icon@2x.png; none of them is a top-level domain.
_FILES = frozenset(
    "png jpg jpeg gif svg webp bmp tif tiff pdf txt css scss html htm json yaml yml toml xml csv log lock whl gz js jsx ts tsx "
    "java cpp hpp conf cfg ini bin exe dll tar rar alpha beta rc dev final snapshot local localdomain internal".split()
)
# Countries' domains in use, ISO 3166-1 with the exceptional reservations and without those that were never delegated.
_COUNTRIES = frozenset(
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg ch ci "
    "ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn "
    "gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc "
    "li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz "
    "om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st su sv sx sy "
    "sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw".split()
)
_USUAL = _COUNTRIES | frozenset(
    "com org net edu gov mil int info biz name pro aero coop museum app dev cloud online example".split()
)


def find_emails(reading: Reading) -> Iterator[Find]:
    """Mail addresses (RFC 5321, 6531) with a plausible top-level domain; no quoted local parts."""
    text = reading.text
    at = text.find("@")
    while at >= 0:
        for first, last in _limits(reading, at):
            find = _email(text, at, first, last)
            if find and (not reading.breaks or _is_usual(text, find, reading)):
                yield find
                break
        at = text.find("@", at + 1)


def _limits(reading: Reading, at: int) -> Iterator[Find]:
    """From where to where an address may reach: everywhere, or no further than over one place where a line break was."""
    if not reading.breaks:
        yield 0, len(reading.text)
        return
    breaks = reading.breaks
    after = bisect_right(breaks, at)
    before = [0, *breaks[max(0, after - 2) : after]]
    behind = [*breaks[after : after + 2], len(reading.text), len(reading.text)]
    yield before[-2] if len(before) > 1 else 0, behind[0]
    yield before[-1], behind[1]


def _is_usual(text: str, find: Find, reading: Reading) -> bool:
    """Whether an address over a line break has a usual domain: everything that begins with "@", a decorator say, would do."""
    last = text[find[0] : find[1]].rpartition(".")[2].lower()
    return reading.reaches_over_a_break(*find) and (last in _USUAL or not last.isascii())


def _email(text: str, at: int, first: int, last: int) -> Find | None:
    local = _local(text, at, first)
    if not local:
        return None
    end = _domain_end(text, at + 1, last)
    if not end:
        return None
    if _IN_UNSPACED.search(text, at + 1, end) is None:
        local = local[prose.end() :] if (prose := _PROSE.match(local)) else local
    name = local.lstrip(".'-")
    if not name or (name == "git" and text[end : end + 1] == ":"):  # where a repository is
        return None
    return at - len(name), end


def _local(text: str, at: int, first: int) -> str:
    """What may be the part before the "@" that stands at ``at``: letters and digits of all scripts (RFC 6531), and usual signs."""
    first = max(first, at - _LONGEST_LOCAL)
    before = text[first:at]
    if before.isascii():
        local = _LOCAL_ASCII.search(before)
        return local[0] if local else ""
    start = at
    while start > first and _is_part(text[start - 1], _LOCAL_SIGNS):
        start -= 1
    return text[start:at]


def _is_part(character: str, signs: frozenset[str]) -> bool:
    """Whether it is a letter or a digit, a mark that is written with one, or one of ``signs``."""
    return character.isalnum() or character in signs or unicodedata.category(character)[0] == "M"


def _domain_end(text: str, start: int, last: int) -> int:
    """Where the domain that begins here ends; 0 if there is none."""
    domain = _DOMAIN.match(text, start, last)
    if domain is None:
        literal = _ADDRESS_LITERAL.match(text, start, last)
        if literal:
            return literal.end()
    if domain is None:
        may_be_international = not text[start : min(last, start + _LONGEST_DOMAIN)].isascii()
    else:
        # A letter of another script goes on with it, as in post.münchen.example; in an unspaced text the next word does not.
        follows = text[domain.end() : min(last, domain.end() + 1)]
        may_be_international = (
            not follows.isascii() and _is_part(follows, _DOMAIN_SIGNS) and not _IN_UNSPACED.match(follows)
        )
    end = _international_domain_end(text, start, last) if may_be_international else 0
    return end or (domain.end() if domain and _is_plausible(domain[1]) else 0)


def _international_domain_end(text: str, start: int, last: int) -> int:
    """Where a domain with letters of any script (RFC 5890) ends that begins here; 0 if there is none."""
    last = min(last, start + _LONGEST_DOMAIN)
    stop = start
    while stop < last and _is_part(text[stop], _DOMAIN_SIGNS):
        stop += 1
    found, end = 0, start
    for index, label in enumerate(text[start:stop].split(".")[:_MOST_LABELS]):
        if not 0 < len(label) <= _LONGEST_LABEL or label[0] == "-":
            break
        end += len(label)
        is_word = len(label) >= 2 and all(letter.isalpha() or not letter.isalnum() for letter in label)
        if index and is_word and not _DOMAIN_SIGNS.intersection(label) and _is_plausible(label):
            found = end
        end += 1
    return found


def _is_plausible(name: str) -> bool:
    """Whether a domain may end with it."""
    name = name.lower()
    return name in _COUNTRIES if len(name) == 2 and name.isascii() else name not in _FILES


# Country calling codes: ITU-T E.164, list of assigned codes.
_CALLING_CODE = (
    r"(?:1|7|2(?:[07]|[1-69][0-9])|3(?:[0123469]|[578][0-9])|4(?:[013456789]|2[0-9])|5(?:[1-8]|[09][0-9])|6(?:[0-6]|[789][0-9])"
    r"|8(?:[1246]|[0578][0-9])|9(?:[0123458]|[679][0-9]))"
)
_SEPARATOR = r"[ ().\-/]{0,3}"
_LEFT = r"(?<![0-9A-Za-z_+])(?<![0-9][.,\-])"
_RIGHT = r"(?![0-9A-Za-z_])(?!-[0-9])"
# Groups of a number that is grouped by spaces are no part of a row of figures.
_ALONE_LEFT, _ALONE_RIGHT = r"(?<![0-9][ \t])", r"(?![ \t][0-9])"
_INTERNATIONAL = re.compile(
    rf"(?<![0-9A-Za-z_+.,])\(?(?:\+ ?|00 ?){_CALLING_CODE}(?:{_SEPARATOR}[0-9]){{6,13}}{_RIGHT}"
)
_CHINA_MOBILE = re.compile(
    rf"{_LEFT}(?:1[3-9][0-9]{{9}}|{_ALONE_LEFT}(?:86[ \-])?1[3-9][0-9](?:[ .\-][0-9]{{4}}){{2}}{_ALONE_RIGHT}){_RIGHT}"
)
_NORTH_AMERICA = (
    r"(?:1[ .\-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}(?:[.\-/]| {1,2}| ?- ?))"
    r"(?![0-9]11)[2-9][0-9]{2}(?:[ .\-]| - )[0-9]{4}"
)
_NATIONAL = re.compile(
    rf"{_LEFT}{_ALONE_LEFT}(?:{_NORTH_AMERICA}"
    r"|0[0-9]{1,3}-[0-9]{3,4}-[0-9]{4}"  # Japan, Korea
    r"|0[1-9][0-9]{1,2}-[0-9]{7,8}"  # China, landlines
    r"|0[1-9](?:[ .\-][0-9]{2}){4}"  # France
    r"|\(?0[0-9]{2,4}\)? [0-9]{3,4} [0-9]{3,4}|07[0-9]{3} [0-9]{6}"  # United Kingdom and others with a leading zero
    rf"){_RIGHT}{_ALONE_RIGHT}"
)
_NAMED = re.compile(
    r"(?:(?<![A-Za-z])(?:tel|t[ée]l|phone|mobile?|cell|fax|whatsapp|viber|handy|telefon\w{0,5}|telephone|t[ée]l[ée]phone|tel[ée]fono"
    r"|m[óo]vil|celular|portable|rufnummer|call me (?:on|at)|text me (?:on|at))|电话|電話|手机|手機|联系方式|携帯|전화|휴대폰|☎|📞)"
    r"(?:[\s.:：#-]|nr|no|number|num[ée]ro|nummer|号码|番号|번호|is|ist|est|es|是|は|为){0,6}"
    r"(\(?[0-9](?:[ ().\-/]{0,2}[0-9]){6,13})(?![0-9A-Za-z_])",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?:19|20)[0-9]{2}[-/. ][0-9]{1,2}[-/. ][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.](?:19|20)[0-9]{2}")
_NAME_LENGTH = 40


def find_phones(reading: Reading) -> Iterator[Find]:
    """International numbers, mobile numbers of China, national numbers in their usual groups or after a word that says so."""
    text = reading.text
    for start, end in reading.areas:
        lowest, highest = max(0, start - 4), min(len(text), end + 2)
        for match in _INTERNATIONAL.finditer(text, lowest, highest):
            if _is_international(match[0]):
                yield match.span()
        for pattern in (_CHINA_MOBILE, _NATIONAL):
            for match in pattern.finditer(text, lowest, highest):
                yield match.span()
        for match in _NAMED.finditer(text, max(0, start - _NAME_LENGTH), highest):
            if not _DATE.match(match[1]):
                yield match.span(1)


def _is_international(number: str) -> bool:
    digits = "".join(filter(str.isdigit, number))
    if digits == number and len(digits) < 12:
        return False  # two zeros may just as well begin the number of an invoice
    digits = digits.removeprefix("00")
    if digits.startswith("1"):  # North America: three digits that begin with 2 to 9, twice, and four
        return len(digits) == 11 and digits[1] in "23456789" and digits[4] in "23456789"
    if digits.startswith("86"):
        return len(digits) in (10, 11, 12, 13) and digits[2] in "123456789"
    # A count may have a plus sign, but hardly all zeros behind its first digits.
    return 8 <= len(digits) <= 15 and not digits.endswith("000000")
