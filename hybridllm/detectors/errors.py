"""What can go wrong with detectors: one that cannot be made, and one that fails while it reads."""

from __future__ import annotations

__all__ = ["DetectorError", "DetectorFailedError"]


class DetectorError(ValueError):
    """A detector of a policy cannot be made.

    Args:
        detector: Its name.
        message: What is wrong with it.
        mend: What to do about it.
    """

    def __init__(self, detector: str, message: str, mend: str) -> None:
        super().__init__(f"The detector {detector!r} {message} {mend}")
        self.detector = detector
        self.message = message
        self.mend = mend


class DetectorFailedError(RuntimeError):
    """A detector failed while it read a text, so that nobody knows what is in it. Says nothing of the text.

    Args:
        detector: Its name.
        what: What happened, as in ``Scan.failed``.
    """

    def __init__(self, detector: str, what: str) -> None:
        super().__init__(f"The detector {detector!r} {what}.")
        self.detector = detector
        self.what = what
