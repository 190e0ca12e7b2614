"""The places that a model can run at, behind one seam: ``Backend``."""
