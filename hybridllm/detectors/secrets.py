"""Secrets of machines: keys of programming interfaces, tokens, passwords in assignments, and private keys."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.detectors.reading import Find, Reading

__all__ = ["find_api_keys", "find_private_keys"]

# Formats that providers publish so that leaked keys can be recognised.
_KNOWN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_\-]{20,250}"  # OpenAI, Anthropic, OpenRouter and others
    r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{22,244}"  # GitHub
    r"|gl(?:pat|ptt|dt|rt|soat|cbt|ft|agent|oas)-[A-Za-z0-9_\-]{20,120}"  # GitLab
    r"|xox[abeoprs]-[A-Za-z0-9\-]{10,250}|xapp-[0-9]-[A-Za-z0-9\-]{20,200}"  # Slack
    r"|AIza[A-Za-z0-9_\-]{35}|ya29\.[A-Za-z0-9_\-]{20,512}|GOCSPX-[A-Za-z0-9_\-]{28}"  # Google
    r"|hf_[A-Za-z0-9]{30,60}|r8_[A-Za-z0-9]{37}|gsk_[A-Za-z0-9]{40,80}|xai-[A-Za-z0-9]{40,120}|nvapi-[A-Za-z0-9_\-]{40,120}"
    r"|(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,250}|whsec_[A-Za-z0-9+/=]{24,100}"  # Stripe
    r"|SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{32,64}|SK[0-9a-f]{32}|key-[0-9a-f]{32}|[0-9a-f]{32}-us[0-9]{1,2}"  # mail, SMS
    r"|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_\-]{50,300}|dckr_pat_[A-Za-z0-9_\-]{24,40}"  # package registries
    r"|do[opr]_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}|hvs\.[A-Za-z0-9_\-]{24,200}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"
    r"|tskey-[a-z]{2,10}-[A-Za-z0-9\-]{16,80}|PMAK-[a-f0-9]{24}-[a-f0-9]{34}|lin_api_[A-Za-z0-9]{40}|figd_[A-Za-z0-9_\-]{40}"
    r"|ATATT3[A-Za-z0-9_\-=]{50,300}|[0-9]{8,10}:AA[A-Za-z0-9_\-]{33}"
    r"|(?<![_\-])eyJ[A-Za-z0-9_\-]{8,4000}\.eyJ[A-Za-z0-9_\-]{8,8000}\.[A-Za-z0-9_\-]{8,2000}"  # JSON Web Token (RFC 7519)
    r")(?![A-Za-z0-9])"
)
_BEARER = re.compile(
    r"(?:bearer|authorization:\s{0,2}(?:basic|token))\s{1,2}([A-Za-z0-9._~+/\-]{16,8000}={0,2})", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"(?:key|token|secret|credentials?|auth)(?:[_\- ]?id)?[\"'\])]{0,2}"
    r"(?:[ \t]{0,3}(?:=>|:=|={1,2}|:)[ \t]{0,3}|[ \t]{1,2}(?:is|ist|est|es|is:|ist:)[ \t]{1,2}|[ \t]?[是为][ \t:]{0,2})"
    r"[\"'`]{0,3}([A-Za-z0-9_\-+/.~]{16,512}={0,2})",
    re.IGNORECASE,
)
_PASSWORD = re.compile(
    r"(?:passw(?:or)?d|passwd|passphrase|passwort|kennwort|mot de passe|contraseña|senha|密码|密碼|パスワード)[\"'\])]{0,2}"
    r"(?:[ \t]{0,3}(?:=>|:=|={1,2}|:)[ \t]{0,3}|[ \t]{1,2}(?:is|ist|est|es|is:|ist:)[ \t]{1,2}|[ \t]?[是为は][ \t:]{0,2})"
    r"[\"'`]{0,3}([^\s\"'`<>{}\[\]$,;]{6,128})",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"://[^\s/:@\"'<>]{1,64}:([^\s/@\"'<>{}$]{4,128})@[A-Za-z0-9\[]")
# One of these is in every word of that pattern; to look for them is much quicker.
_PASSWORD_SIGNS = ("assw", "ASSW", "asse", "assp", "ASSP", "kennw", "Kennw", "ontrase", "senha", "密", "パスワード")
_KINDS = re.compile(r"([A-Z])|([a-z])|([0-9])")


def find_api_keys(reading: Reading) -> Iterator[Find]:
    """Keys in published formats, web tokens, bearer tokens, random values that are called a key, token, secret or password."""
    text = reading.text
    if reading.has_long_token:
        for match in _KNOWN.finditer(text):
            value = match[0]
            if _looks_random(value) and (not value.startswith("sk-") or any(map(str.isdigit, value))):
                yield match.span()
        for pattern in (_BEARER, _ASSIGNED):
            for match in pattern.finditer(text):
                if _looks_random(match[1]) and _is_mixed(match[1]):
                    yield match.span(1)
    if reading.breaks:
        return  # what stands beside a password or in a URL is one word
    if any(sign in text for sign in _PASSWORD_SIGNS):
        for match in _PASSWORD.finditer(text):
            if _is_password(match[1]):
                yield match.start(1), match.start(1) + len(match[1].rstrip(".!?)"))
    if "://" in text:
        for match in _IN_URL.finditer(text):
            if len(set(match[1])) > 3:
                yield match.span(1)


def _looks_random(value: str) -> bool:
    """Whether a value has too many different characters for an example such as ``sk-xxxxxxxx``."""
    return len(set(value[-40:])) >= 9 and _entropy_bits(value[:256]) >= 3


def _entropy_bits(value: str) -> float:
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


def _is_mixed(value: str) -> bool:
    """Whether letters and digits change so often within one part that no person named something like that."""
    if not any(map(str.isdigit, value)) or not any(map(str.isalpha, value)):
        return False
    return any(len(part) >= 8 and _changes(part) * 6 >= len(part) for part in re.split(r"[_\-./]", value))


def _changes(part: str) -> int:
    """How often the kind of character changes: capital, small letter, digit."""
    kinds = [match.lastindex for match in _KINDS.finditer(part)]
    return sum(one != other for one, other in pairwise(kinds))


def _is_password(value: str) -> bool:
    """Whether something after "password is" is one, and no word of a sentence, variable or row of dots."""
    letters = any(map(str.isalpha, value))
    body = value.rstrip(".,;:!?)")
    other = any(not character.isalpha() for character in body[1:])
    variable = "." in body and body.replace(".", "").replace("_", "").isalpha()
    return letters and other and not variable and len(set(body)) >= 5 and "(" not in body and not _plain_words(body)


def _plain_words(value: str) -> bool:
    """Whether there are only letters, with hyphens or underscores between them."""
    return value.replace("-", "").replace("_", "").replace("/", "").isalpha()


_PEM = re.compile(r"-{1,5} ?BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)? ?-{1,5}")
_PEM_END = re.compile(r"-{1,5} ?END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)? ?-{1,5}")
_BODY = re.compile(r"(?:[A-Za-z\-]{3,20}: [^\n]{0,120}\n|[A-Za-z0-9+/=\s\\])*+")
_BARE = re.compile(
    r"(?:b3BlbnNzaC1rZXktdjEA[A-Za-z0-9+/=\s\\]{40,}"  # OpenSSH: "openssh-key-v1" and a zero
    r"|MII[A-Za-z0-9+/]{2}[AQgw]IBADANBgkqhkiG9w0BAQEFAASC[A-Za-z0-9+/=\s\\]{40,}"  # PKCS #8 (RFC 5958), RSA
    r"|MII[A-Za-z0-9+/]{2}[AQgw]IBAAKC[A-Za-z0-9+/=\s\\]{40,}"  # PKCS #1 (RFC 8017)
    r"|AGE-SECRET-KEY-1[A-Z0-9]{58}"  # age
    r"|PuTTY-User-Key-File-[23]: [\s\S]{0,4000}?Private-Lines: [0-9]{1,3}[A-Za-z0-9+/=\s]*)"
)
_JSON_WEB_KEY = re.compile(r"[\"']d[\"']\s{0,3}:\s{0,3}[\"']([A-Za-z0-9_\-]{32,1024})[\"']")
_BARE_SIGNS = ("b3BlbnNzaC1rZXktdjEA", "MII", "AGE-SECRET-KEY-1", "PuTTY-User-Key-File-")


def find_private_keys(reading: Reading) -> Iterator[Find]:
    """Private keys in PEM, OpenSSH, OpenPGP, PuTTY, age and JSON (RFC 7517), also without their first line."""
    text = reading.text
    if "PRIVATE KEY" in text:
        for match in _PEM.finditer(text):
            body = _BODY.match(text, match.end())
            end = body.end() if body else match.end()
            last = _PEM_END.match(text, end)
            yield match.start(), last.end() if last else end
    if not reading.has_long_token:
        return
    if any(sign in text for sign in _BARE_SIGNS):
        for match in _BARE.finditer(text):
            yield match.span()
    if '"kty"' in text or "'kty'" in text:
        for match in _JSON_WEB_KEY.finditer(text):
            yield match.span(1)
