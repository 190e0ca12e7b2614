"""Detectors recognise what should not leave, so that a label can be raised. They are a help, never the guarantee.

A text is normalised first (``normalize``) and then read by each detector of the policy (``detector_set``). Detectors favour
precision where a checksum gives it, and take time in proportion to the text.
"""

from hybridllm.detectors.detector_set import BUILT_IN, DetectorSet, Scan, Span, detector_set
from hybridllm.detectors.errors import DetectorError, DetectorFailedError
from hybridllm.detectors.normalize import normalized

__all__ = [
    "BUILT_IN",
    "DetectorError",
    "DetectorFailedError",
    "DetectorSet",
    "Scan",
    "Span",
    "detector_set",
    "normalized",
]
