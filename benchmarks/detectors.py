"""Measures the detectors on a generated corpus: prints JSON with precision, recall, leakage after redaction, and time.

``residual_leakage`` is the share of a detector's positives of which four characters of the secret in a row still stand there when
its finds are taken out of each text for itself (``DetectorSet.spans``); ``residual_leakage_unnoticed`` the share of those in which the
detector then finds nothing more in the whole request, so that they would be sent. The same with ``_together`` is for finds in all
texts of a request together (``DetectorSet.spans_of``). The default seed is one that the detectors were not tuned on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from benchmarks._detector_corpus import Case, negatives, positives
from hybridllm.detectors import BUILT_IN, DetectorSet, Span, normalized
from policies import Detector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LEAK = 4
_TEXT_BYTES = 2048
_PROSE = (
    "The museum opens at nine every day and closes at six in the evening, except on Mondays, when it stays closed. Tickets cost 12 "
    "euros; children under 14 enter free, and on the first Sunday of each month so does everybody else. The house was built in 1898 "
    "by two brothers who had made their money with clocks: some 300 of them still stand in the hall, and they all tell another time. "
    "If you come by train, take line 4 and leave at the river - it is a walk of five minutes (follow the signs). "
)
_CHINESE = (
    "博物馆每天上午九点开门，晚上六点关门，周一除外。门票12元；14岁以下儿童免费。请问您需要什么帮助吗？"
    "我们有300个钟，都在大厅里。"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positives", type=int, default=2000, help="of each detector")
    parser.add_argument("--negatives", type=int, default=9000, help="that are the same for all detectors")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--scans", type=int, default=2000, help="of each text whose time is taken")
    arguments = parser.parse_args()
    harmless = list(negatives(arguments.negatives, arguments.seed))
    prose = _filled(_PROSE)
    for name in BUILT_IN:
        line = quality(name, list(positives(name, arguments.positives, arguments.seed)), harmless)
        _print({**line, **_per_kb(_timed(DetectorSet([Detector(name)]), [prose], arguments.scans))})
    everything = DetectorSet([Detector(name) for name in BUILT_IN])
    random = Random(arguments.seed)
    rows = [" ".join(str(random.randrange(10 ** random.randrange(1, 9))) for _ in range(8)) for _ in range(60)]
    texts = {
        "english": [prose],
        "english, eight messages": [prose[at : at + 256] for at in range(0, _TEXT_BYTES, 256)],
        "english, with line breaks": [prose.replace(". ", ".\n")],
        "chinese": [_filled(_CHINESE)],
        "figures": ["\n".join(rows)[:_TEXT_BYTES]],
    }
    for name, text in texts.items():
        samples_us = _timed(everything, text, arguments.scans if name != "figures" else arguments.scans // 10)
        _print({"detector": "all", "text": name, "text_bytes": _TEXT_BYTES, **_microseconds("scan", samples_us)})


def quality(detector: str, secret: Sequence[Case], harmless: Sequence[Case]) -> dict[str, object]:
    """Precision, recall and leakage of one detector over positives and negatives."""
    detectors = DetectorSet([Detector(detector)])
    missed = Counter(case.kind for case in secret if not _finds(detectors, case.texts))
    wrong = Counter(case.kind for case in harmless if _finds(detectors, case.texts))
    apart = [
        left for case in secret if (left := _left(case, [detectors.spans(text) for text in case.texts])) is not None
    ]
    together = [left for case in secret if (left := _left(case, detectors.spans_of(case.texts))) is not None]
    found = len(secret) - missed.total()
    precision = found / max(1, found + wrong.total())
    recall = found / len(secret)
    return {
        "detector": detector,
        "positives": len(secret),
        "negatives": len(harmless),
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(1e-9, precision + recall), 4),
        "missed": dict(sorted(missed.items())),
        "false_positives": dict(sorted(wrong.items())),
        "residual_leakage": round(len(apart) / len(secret), 4),
        "residual_leakage_unnoticed": round(sum(not _finds(detectors, texts) for texts in apart) / len(secret), 4),
        "residual_leakage_together": round(len(together) / len(secret), 4),
        "residual_leakage_together_unnoticed": round(
            sum(not _finds(detectors, texts) for texts in together) / len(secret), 4
        ),
    }


def _finds(detectors: DetectorSet, texts: Sequence[str]) -> bool:
    return bool(detectors.scan([(str(at), text) for at, text in enumerate(texts)]).found)


def _left(case: Case, spans: Sequence[Sequence[Span]]) -> list[str] | None:
    """The texts without what was found in each, if a part of the secret still stands there; else None."""
    texts = []
    for text, found in zip(case.texts, spans, strict=True):
        kept, at = [], 0
        for span in found:
            kept.append(text[at : span.start])
            at = max(at, span.end)
        texts.append("[...]".join([*kept, text[at:]]))
    parts = ["".join(filter(str.isalnum, normalized(text))) for text in texts]
    written = "".join(filter(str.isalnum, normalized("".join(case.texts))))
    for secret in {case.secret, case.secret.lower(), case.secret.upper()}:
        if secret not in written:
            continue
        if any(secret[at : at + _LEAK] in part for at in range(len(secret) - _LEAK + 1) for part in parts):
            return texts
    return None


def _filled(text: str) -> str:
    """As much of a text, repeated, as fits."""
    return (text * _TEXT_BYTES).encode()[:_TEXT_BYTES].decode("utf-8", "ignore")


def _timed(detectors: DetectorSet, texts: Sequence[str], count: int) -> list[float]:
    request = [(f"messages[{at}].content", text) for at, text in enumerate(texts)]
    return _samples_us(lambda: detectors.scan(request), count)


def _samples_us(function: Callable[[], object], count: int) -> list[float]:
    samples = []
    for _ in range(count):
        began = time.perf_counter_ns()
        function()
        samples.append((time.perf_counter_ns() - began) / 1000)
    return samples


def _microseconds(name: str, samples_us: Sequence[float]) -> dict[str, float]:
    return {
        f"{name}_median_us": round(statistics.median(samples_us), 2),
        f"{name}_p95_us": round(statistics.quantiles(samples_us, n=20)[-1], 2),
    }


def _per_kb(samples_us: Sequence[float]) -> dict[str, float]:
    figures = _microseconds("per_kb", [sample * 1024 / _TEXT_BYTES for sample in samples_us])
    return {"median_us_per_kb": figures["per_kb_median_us"], "p95_us_per_kb": figures["per_kb_p95_us"]}


def _print(line: dict[str, object]) -> None:
    print(json.dumps({"benchmark": "detectors", **line}, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
