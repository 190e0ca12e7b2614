"""Microsoft's presidio-analyzer as a detector, without any model: its patterns, checksums and context words only.

It never reaches a network. The recogniser of mail addresses, which fetches the list of public suffixes, is left out (``email``
is a detector of its own), and so are the ones that need a model or a service. Names and places are therefore not found.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hybridllm.detectors.errors import DetectorError
from hybridllm.detectors.worker import THREAD_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm.detectors.reading import Find
    from policies import Detector

__all__ = ["presidio_finder"]

_LANGUAGE = "en"  # of the context words; the patterns are read in every language
_RECOGNIZERS = (
    "AbaRoutingRecognizer", "AuMedicareRecognizer", "AuTfnRecognizer", "CreditCardRecognizer", "CryptoRecognizer",
    "EsNieRecognizer", "EsNifRecognizer", "FiPersonalIdentityCodeRecognizer", "IbanRecognizer", "InAadhaarRecognizer",
    "InPanRecognizer", "InVoterRecognizer", "IpRecognizer", "ItDriverLicenseRecognizer", "ItFiscalCodeRecognizer",
    "ItIdentityCardRecognizer", "ItPassportRecognizer", "KrRrnRecognizer", "MedicalLicenseRecognizer", "NhsRecognizer",
    "PhoneRecognizer", "PlPeselRecognizer", "SgFinRecognizer", "ThTninRecognizer", "UkNinoRecognizer", "UsBankRecognizer",
    "UsItinRecognizer", "UsLicenseRecognizer", "UsPassportRecognizer", "UsSsnRecognizer",
)  # fmt: skip
# A pattern alone scores from 0.01 to 0.4, one with a checksum or a context word beside it more.
_LOWEST_SCORE = 0.5
_LONGEST_PIECE = 20_000
_LOGGERS = ("presidio-analyzer", "decision_process")


def _not_of_this_package(record: logging.LogRecord) -> bool:
    """Keep what presidio logs of our texts out of every log: at the level DEBUG it writes the words around a find.

    Somebody else in this process may use it too, so only records of the threads that read for us are dropped.
    """
    return not (record.threadName or "").startswith(THREAD_PREFIX)


def presidio_finder(detector: Detector) -> Callable[[str], list[Find]]:
    """Make the analyser; takes seconds.

    Raises:
        DetectorError: The package is not installed, or is another one than this release knows.
    """
    try:
        import presidio_analyzer
        import spacy
        from presidio_analyzer import predefined_recognizers
        from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine
    except ImportError:
        raise DetectorError(
            detector.name,
            "needs the package presidio-analyzer, which is not installed.",
            "Install it: pip install 'hybridllm[presidio]'.",
        ) from None

    class Tokens(NlpEngine):  # type: ignore[misc, unused-ignore]  # typed only where the package is installed
        """Words as spaCy's rules part them, without any model: what presidio needs to see context words."""

        def __init__(self) -> None:
            self._pipeline = spacy.blank(_LANGUAGE)
            self._pipeline.max_length = 1 << 30

        def load(self) -> None:
            """Nothing is to be loaded."""

        def is_loaded(self) -> bool:
            """Whether everything is there, as it always is."""
            return True

        def process_text(self, text: str, language: str) -> Any:
            """The words of a text."""
            words = self._pipeline.make_doc(text)
            return NlpArtifacts(
                entities=[],
                tokens=words,
                tokens_indices=[word.idx for word in words],
                lemmas=[word.lower_ for word in words],
                nlp_engine=self,
                language=language,
            )

        def process_batch(self, texts: Any, language: str, *_: Any, **__: Any) -> Any:
            """Each text with its words."""
            return ((text, self.process_text(text, language)) for text in texts)

        def is_stopword(self, word: str, language: str) -> bool:
            """Whether a word says nothing of its neighbours."""
            return bool(self._pipeline.vocab[word].is_stop)

        def is_punct(self, word: str, language: str) -> bool:
            """Whether a word is a sign."""
            return bool(self._pipeline.vocab[word].is_punct)

        def get_supported_entities(self) -> list[str]:
            """No entities are found by this."""
            return []

        def get_supported_languages(self) -> list[str]:
            """The one language."""
            return [_LANGUAGE]

    missing = [name for name in _RECOGNIZERS if not hasattr(predefined_recognizers, name)]
    if missing:
        raise DetectorError(
            detector.name,
            f"needs another release of presidio-analyzer: this one has no {missing[0]}.",
            "Install the one that fits: pip install 'hybridllm[presidio]'.",
        )
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_not_of_this_package)
    registry = presidio_analyzer.RecognizerRegistry(
        recognizers=[getattr(predefined_recognizers, name)(supported_language=_LANGUAGE) for name in _RECOGNIZERS],
        supported_languages=[_LANGUAGE],
    )
    analyzer = presidio_analyzer.AnalyzerEngine(
        registry=registry, nlp_engine=Tokens(), supported_languages=[_LANGUAGE], default_score_threshold=_LOWEST_SCORE
    )

    def find(text: str) -> list[Find]:
        finds: list[Find] = []
        # In pieces that overlap: some of presidio's patterns take more than proportional time.
        for start in range(0, max(1, len(text)), _LONGEST_PIECE - 200):
            results = analyzer.analyze(text[start : start + _LONGEST_PIECE], language=_LANGUAGE)
            finds += [(start + result.start, start + result.end) for result in results]
        return finds

    return find
