"""Texts that no detector should find anything in, though they look as if: figures, dates, versions, hashes, values with an error."""
# ruff: noqa: E501 - templates read better unbroken

from __future__ import annotations

import base64
import string
import uuid
from typing import TYPE_CHECKING

from benchmarks._detector_values import ALNUM, birth_date, digits, grouped, iban, letters, payment_card, until
from hybridllm.detectors.payment_card import luhn

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

__all__ = ["NEGATIVES"]


def _price(random: Random) -> str:
    amount = random.choice(
        [f"{random.randrange(1, 999)}.{digits(random, 2)}", f"{random.randrange(1, 99)},{digits(random, 3)}.00"]
    )
    return random.choice(["The total is ${}.", "Das macht {} EUR.", "Il reste {} € à payer.", "总价￥{}元"]).format(
        amount
    )


def _when(random: Random) -> str:
    year, month, day = birth_date(random)
    hour, minute = random.randrange(24), random.randrange(60)
    return random.choice([
        f"Open on 20{year}-{month}-{day} from {hour:02}:{minute:02} to {hour:02}:59.",
        f"Geboren am {day}.{month}.19{year}, angelegt 20{year}{month}{day}T{hour:02}{minute:02}00Z.",
        f"Backup 20{year}{month}{day}{hour:02}{minute:02}{minute:02} finished.", f"{month}/{day}/20{year} {hour:02}:{minute:02}",
        f"会议时间：20{year}年{month}月{day}日 {hour:02}:{minute:02}", f"timestamp {random.randrange(10**9, 2 * 10**9)}",
        f"at={random.randrange(10**12, 2 * 10**12)} ms", f"{year}-{month}-{day} {day}-{month}-{year}",
    ])  # fmt: skip


def _order(random: Random) -> str:
    length = random.choice([6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18])
    number = digits(random, length)
    return random.choice([
        f"Order {number} has shipped.", f"Bestellnummer {number}", f"order no. #{number}", f"Rechnung Nr. {number}", f"订单号：{number}",
        f"ticket {number} is open", f"tracking 1Z{letters(random, 6)}{digits(random, 10)}", f"PO-{number}", f"SKU {letters(random, 3)}-{number[:6]}",
        f"invoice 00{number[:8]}", f"parcel {letters(random, 2)}{number[:9]}DE",
    ])  # fmt: skip


def _numbers_table(random: Random) -> str:
    width = random.choice([3, 4, 5, 6])
    rows = [
        [random.randrange(10 ** random.choice([2, 3, width])) for _ in range(random.choice([4, 5, 6]))]
        for _ in range(8)
    ]
    separator = random.choice([" ", "\t", "  ", ", ", " | ", ";"])
    return "Figures by month:\n" + "\n".join(separator.join(map(str, row)) for row in rows)


def _decimals(random: Random) -> str:
    return random.choice([
        f"{random.uniform(-90, 90):.6f}, {random.uniform(-180, 180):.6f}", f"loss={random.random()!r} after {random.randrange(10**6)} steps",
        f"pi is 3.14159265358979323846 and e is 2.71828182845904523536; x={random.gauss(0, 1)!r}",
        f"52°{random.randrange(60)}'{random.randrange(60)}\"N 13°24'18\"E", f"mean {random.uniform(0, 9999):.12f}, p = {random.random():.10f}",
    ])  # fmt: skip


def _versions(random: Random) -> str:
    one, two, three = (random.randrange(40) for _ in range(3))
    return random.choice([
        f"python {one}.{two}.{three} and numpy=={one}.{two}.{three}.post1", f"react@{one}.{two}.{three} with icon@2x.png and user@host",
        f"kernel {one}.{two}.{three}-1042-generic #{one}~22.04", f"at nginx/{one}.{two}.{three} port 8080, 10.{one}.{two}.{three}/24",
        f"docker pull registry.example.com/app@sha256:{letters(random, 64, '0123456789abcdef')}",
        f"git clone git@github.com:example/repo-{one}.git", f"192.168.{one}.{two}:8443 -> 10.0.{three}.7:53112",
        f"package@{one}.{two}.{three}-beta.{one}", f"Firmware v{one}.{two}.{three} build 20{digits(random, 6)}.{digits(random, 4)}",
    ])  # fmt: skip


def _hashes(random: Random) -> str:
    hexadecimal = "0123456789abcdef"
    return random.choice([
        f"commit {letters(random, 40, hexadecimal)}", f"md5 {letters(random, 32, hexadecimal)} ok", str(uuid.UUID(int=random.getrandbits(128), version=4)),
        f"id {uuid.UUID(int=random.getrandbits(128), version=4)} not found", f"sha256-{base64.b64encode(random.randbytes(32)).decode()}",
        f"0x{letters(random, 16, hexadecimal)} in libc.so.6", f"#{letters(random, 6, hexadecimal)} and rgb(12, 34, 56)",
        f"{letters(random, 2, hexadecimal)}:{letters(random, 2, hexadecimal)}:3e:00:1f:9a", f"ETag W/\"{letters(random, 27, ALNUM)}\"",
        f"https://example.com/watch?v={letters(random, 11, ALNUM)}&t=42s", f"https://example.com/2024/05/{random.randrange(10**7)}-a-title.html",
    ])  # fmt: skip


def _nearly(random: Random) -> str:
    """A value of a detector with something wrong in it."""

    def wrong(text: str) -> str:
        at = random.choice([at for at, character in enumerate(text) if character in string.digits])
        return text[:at] + str((int(text[at]) + random.randrange(1, 10)) % 10) + text[at + 1 :]

    match random.randrange(6):
        case 0:
            number, _ = payment_card(random)
            return grouped(
                until(lambda: wrong(number), lambda draft: not luhn(draft)), (4, 4, 4), random.choice([" ", "-", ""])
            )
        case 1:
            account, _ = iban(random)
            return until(
                lambda: wrong(account),
                lambda draft: int("".join(str(int(c, 36)) for c in draft[4:] + draft[:4])) % 97 != 1,
            )
        case 2:
            return random.choice(["000-12-3456", "666-12-3456", "123-00-4567", "123-45-0000", "900-12-3456"])
        case 3:
            return random.choice(
                ["12345678A", "X1234567A", "S1234567A", "A123456780", "AB123456E", "11010519491231002"]
            )
        case 4:
            return random.choice(["sk-xxxxxxxxxxxxxxxxxxxxxxxx", "YOUR_API_KEY=your-api-key-goes-here", "api_key = os.environ['API_KEY']",
                                  "token = tokenizer.decode(output_ids)", "password: required, at least eight characters",
                                  "secret_key_base is set in config/credentials", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
                                  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "-----BEGIN PUBLIC KEY-----", "the key is under the mat",
                                  "primary_key = models.BigAutoField(primary_key=True)", "Bearer tokens are sent in a header"])  # fmt: skip
        case _:
            return random.choice(["me at home dot com", "look @ this.", "@alice and @bob.smith", "a@b", "x = w @ v.T", "@app.route('/x')\ndef f():",
                                  "11:30@main stage", "jane@localhost", "price@3.50"])  # fmt: skip


def _prose(random: Random) -> str:
    return random.choice([
        "The museum opens at nine and closes at six; tickets cost 12 euros, children under 14 enter free.",
        "Chapter 12, pages 345-367, ISBN 978-3-16-148410-0, was printed in 1998 in 2,500 copies.",
        "Room 4711 is on floor 3; the code of the door changes every 30 days.",
        "Das Gerät zieht 230 V, 50 Hz und 1500 W; die Sicherung hat 16 A.",
        "博物馆每天上午9点开门，门票12元，14岁以下儿童免费。第三季度收入增长了25.7%，达到1,234,567元。",
        "La réunion du 14 juillet 2025 aura lieu en salle 204 avec 35 personnes.",
        "EAN 4006381333931, lot 20240517-03, best before 05/2026, 12 x 330 ml.",
        "for i in range(1000000): total += data[i] * 0.5  # 4096 bytes, 0xdeadbeef",
        "The score was 3-2, 4-1, 6-4 7-5; attendance 45,120; 2019 2020 2021 2022 2023.",
        "<div class=\"row\"><<b>42</b>>> 1 << 20 == 1048576 && x >>> 3</div>",
        "It takes 1-800 seconds, 10 000 000 runs and +1 000 000 points to win; call f(2, 3) twice.",
        "The population is 1 412 600 000; GDP 17 820 000 000 000; growth +5 200 000 a year.",
        "Solve 555 + 1234 = x, then 415 * 555 - 2671 and (212) + 555.",
    ])  # fmt: skip


NEGATIVES: dict[str, Callable[[Random], str]] = {
    "prices": _price,
    "dates and times": _when,
    "order numbers": _order,
    "tables of figures": _numbers_table,
    "decimals and coordinates": _decimals,
    "versions and addresses": _versions,
    "hashes and links": _hashes,
    "nearly": _nearly,
    "prose and code": _prose,
}
