"""National identity, tax and social security numbers, by their shape and their check digits.

A shape that other numbers have too, and whose check lets one in ten of those through, counts only behind its own name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybridllm.detectors import id_checks as check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybridllm.detectors.reading import Find, Reading

__all__ = ["find_national_ids"]


@dataclass(frozen=True, slots=True)
class _Shape:
    """How some countries' numbers are written, and the checks of which one has to pass."""

    first_digits: tuple[int, ...]
    """How many digits may stand before the first separator or letter; none if the number begins with a letter."""

    pattern: str
    checks: tuple[Callable[[str], bool], ...] = ()
    """Of a number that stands for itself."""

    named: tuple[tuple[str, Callable[[str], bool]], ...] = ()
    """Of a number that stands behind one of these words (a pattern)."""


_US = r"ssn|social security|itin|tax ?id"
_NL = r"bsn|burgerservice|sofi"
_CA = r"(?<![a-z])sin(?![a-z])|social insurance|(?<![a-z])nas(?![a-z])"
_PT = r"(?<![a-z])nif(?![a-z])|contribuinte"
_IL = r"teudat|(?<![a-z])t\.?z(?![a-z])|israel|זהות|ת\.?ז"
_IN = r"aadhaa?r|uidai|आधार"
_JP = r"my ?number|マイナンバー|個人番号"
_TH = r"thai|citizen|ประชาชน"
_NHS = r"(?<![a-z])nhs(?![a-z])"
_SA = r"iqama|national id|saudi|هوية|إقامة|اقامة"
_NINE_NAMED = (
    (_US, check.united_states), (_NL, check.netherlands), (_CA, check.canada), (_PT, check.portugal), (_IL, check.israel),
)  # fmt: skip

_DIGIT_SHAPES = (
    _Shape((3, 6, 10, 12, 14, 17, 18),
           r"[1-9][0-9]{2}[\s\-]?[0-9]{3}[\s\-]?[0-9]{4}[\s\-]?[0-9]{2}[\s\-]?[0-9]{2}[\s\-]?[0-9]{3}[\s\-]?[0-9Xx]",
           (check.china,)),
    _Shape((1, 3, 5, 6, 7, 10, 13, 15),
           r"[1-478][ .\-]?[0-9]{2}[ .\-]?[0-9]{2}[ .\-]?[0-9][0-9ABab][ .\-]?[0-9]{3}[ .\-]?[0-9]{3}[ .\-/]?[0-9]{2}",
           (check.france,)),
    _Shape((3, 15), r"784-[0-9]{4}-[0-9]{7}-[0-9]|784[0-9]{12}", (check.emirates,)),
    _Shape((6,), r"[0-9]{6}[ \-][1-8][0-9]{6}", (check.korea,)),
    _Shape((3, 7, 11, 13), r"756[. ]?[0-9]{4}[. ]?[0-9]{4}[. ]?[0-9]{2}", (check.switzerland,)),
    _Shape((1,), r"[0-9][ \-][0-9]{4}[ \-][0-9]{5}[ \-][0-9]{2}[ \-][0-9]", (check.thailand,)),
    _Shape((5,), r"[0-9]{5}-[0-9]{7}-[0-9]", (check.pakistan,)),
    _Shape((6, 10, 13), r"[0-9]{6} ?[0-9]{4} ?[0-9]{3}", (check.romania, check.south_africa), ((_TH, check.thailand),)),
    _Shape((8, 12), r"(?:18|19|20)[0-9]{6}[\-+ ]?[0-9]{4}", (check.sweden,)),
    _Shape((6,), r"[0-9]{6}-[0-9]{2}-[0-9]{4}", (check.malaysia,)),
    _Shape((4,), r"(?<![0-9][ \-])[2-9][0-9]{3}(?:-[0-9]{4}-| [0-9]{4} )[0-9]{4}(?![ \-][0-9])", (check.india,)),
    _Shape((4, 8, 12), r"[0-9]{4}[ \-]?[0-9]{4}[ \-]?[0-9]{4}", (), ((_IN, check.india), (_JP, check.japan))),
    _Shape((3,), r"[0-9]{3}-[0-9]{3}-[0-9]{3}[ \-][0-9]{2}", (check.russia,)),
    _Shape((3, 9), r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[0-9]{9}-[0-9]{2}", (check.brazil,)),
    _Shape((2,), r"[0-9]{2}\.[0-9]{2}\.[0-9]{2}[\- ][0-9]{3}[.\-][0-9]{2}", (check.belgium,)),
    _Shape((2,), r"[0-9]{2}-[0-9]{8}-[0-9]", (check.argentina,)),
    _Shape((2,), r"[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}", (check.germany,)),
    _Shape((6,), r"[0-9]{6} [0-9]{5}", (check.norway,)),
    _Shape((11,), r"[0-9]{11}",
           (check.germany, check.poland, check.brazil, check.turkey, check.norway, check.belgium, check.estonia)),
    _Shape((6,), r"[0-9]{6}[\-+][0-9]{4}", (check.sweden, check.denmark)),
    _Shape((6,), r"[0-9]{6}/[0-9]{4}", (check.czechia,)),
    _Shape((4,), r"(?<![0-9] )[1-9][0-9]{3} [0-9]{6}(?! [0-9])", (check.austria,)),
    _Shape((3, 6, 10), r"[0-9]{3}[ \-]?[0-9]{3}[ \-]?[0-9]{4}", (),
           ((_NHS, check.united_kingdom_nhs), (_SA, check.saudi_arabia))),
    _Shape((3,), r"[0-9]{3}-[0-9]{2}-[0-9]{4}|(?<![0-9] )[0-9]{3} [0-9]{2} [0-9]{4}(?! [0-9])",
           (check.united_states, check.united_states_itin)),
    _Shape((3, 6, 9), r"[0-9]{3}[ \-.]?[0-9]{3}[ \-.]?[0-9]{3}", (), _NINE_NAMED),
    _Shape((4,), r"[0-9]{4}\.[0-9]{2}\.[0-9]{3}", (), ((_NL, check.netherlands),)),
    _Shape((2, 5, 8), r"[0-9]{2}\.?[0-9]{3}\.?[0-9]{3}[ \-]?[A-HJ-NP-TV-Za-hj-np-tv-z]", (check.spain,)),
    _Shape((6,), r"[0-9]{6}[\-+A-FU-Ya-fu-y][0-9]{3}[0-9A-FHJ-NPR-Ya-fhj-npr-y]", (check.finland,)),
    _Shape((1, 2), r"[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}-[0-9Kk]", (check.chile,)),
)  # fmt: skip
_LETTER_SHAPES = (
    _Shape((), r"[A-Za-z]{4}[0-9]{6}[HMXhmx][A-Za-z]{5}[A-Za-z0-9][0-9]", (check.mexico,)),
    _Shape((),
           r"[A-Za-z]{3} ?[A-Za-z]{3} ?[0-9LMNPQRSTUVlmnpqrstuv]{2}[ABCDEHLMPRSTabcdehlmprst][0-9LMNPQRSTUVlmnpqrstuv]{2}"
           r" ?[A-Za-z][0-9LMNPQRSTUVlmnpqrstuv]{3} ?[A-Za-z]", (check.italy,)),
    _Shape((), r"[XYZxyz][ \-]?[0-9]{7}[ \-]?[A-HJ-NP-TV-Za-hj-np-tv-z]", (check.spain,)),
    _Shape((), r"[STFGMstfgm][0-9]{7}[A-Za-z]", (check.singapore,)),
    _Shape((), r"[A-Za-z][1289][0-9]{8}", (check.taiwan,)),
    _Shape((), r"[A-Za-z]{1,2} ?[0-9]{6} ?\([0-9Aa]\)", (check.hong_kong,)),
    _Shape((), r"(?![DFIQUVdfiquv])[A-Za-z](?![DFIQUVOdfiquvo])[A-Za-z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d]",
           (check.united_kingdom_nino,)),
)  # fmt: skip

_LEFT = r"(?<![0-9A-Za-z])(?<![0-9a-fA-F][\-_])(?<![0-9][.,/])"
_RIGHT = r"(?![0-9A-Za-z_])(?![.,/\-][0-9])"
_START = re.compile(rf"{_LEFT}(?:[0-9]+|[A-Za-z]{{1,6}}[ \-]?[0-9]|[A-Za-z]{{3}} [A-Za-z]{{3}} ?[0-9])")
_SEPARATORS = re.compile(r"[^0-9A-Za-z]+")
_NAME_DISTANCE = 40
# Where letters are among the first characters of a number, or after its last digits.
_LETTERS_BEFORE, _LETTERS_AFTER = 10, 12
_LONGEST = 18


@dataclass(frozen=True, slots=True)
class _Test:
    """A shape, ready to be tried."""

    pattern: re.Pattern[str]
    checks: tuple[Callable[[str], bool], ...]
    named: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...]


def _test(shape: _Shape) -> _Test:
    named = tuple((re.compile(words, re.IGNORECASE), passes) for words, passes in shape.named)
    return _Test(re.compile(f"(?:{shape.pattern}){_RIGHT}"), shape.checks, named)


@dataclass(frozen=True, slots=True)
class _Tests:
    """The shapes that a number may have which begins in some way, and all of them in one pattern, to rule most numbers out."""

    any: re.Pattern[str]
    tests: tuple[_Test, ...]


def _tests(shapes: list[_Shape]) -> _Tests | None:
    if not shapes:
        return None
    pattern = "|".join(f"(?:{shape.pattern})" for shape in shapes)
    return _Tests(re.compile(f"(?:{pattern}){_RIGHT}"), tuple(map(_test, shapes)))


_LETTER_TESTS = _tests(list(_LETTER_SHAPES))
_DIGIT_TESTS = tuple(
    _tests([shape for shape in _DIGIT_SHAPES if length in shape.first_digits]) for length in range(_LONGEST + 1)
)


def find_national_ids(reading: Reading) -> Iterator[Find]:
    """Numbers that pass the check of a country whose numbers have this shape."""
    text = reading.text
    if reading.may_have_codice_fiscale:
        windows = [(0, len(text))]
    else:
        windows = [
            (max(0, start - _LETTERS_BEFORE), min(len(text), end + _LETTERS_AFTER)) for start, end in reading.areas
        ]
    done = 0
    for first, last in windows:
        at = max(first, done)
        while start := _START.search(text, at, last):
            begin, at = start.span()
            if text[begin] <= "9":
                tests = _DIGIT_TESTS[at - begin] if at - begin <= _LONGEST else None
            else:
                tests = _LETTER_TESTS
                at -= 1
            if tests is None or tests.any.match(text, begin) is None:
                continue
            end = _number_at(text, begin, tests.tests)
            if end:
                yield begin, end
                done = at = end


def _number_at(text: str, start: int, tests: tuple[_Test, ...]) -> int:
    """Where a number that begins here ends; 0 if there is none."""
    for test in tests:
        match = test.pattern.match(text, start)
        if match is None:
            continue
        number = _SEPARATORS.sub("", match[0]).upper()
        if any(passes(number) for passes in test.checks):
            return match.end()
        if test.named:
            before = text[max(0, start - _NAME_DISTANCE) : start]
            if any(passes(number) and words.search(before) for words, passes in test.named):
                return match.end()
    return 0
