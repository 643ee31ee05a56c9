"""Studies measure random networks without training. A study is called and returns rows."""

from spectral_repro.studies.depth import Depth
from spectral_repro.studies.gaussian import GaussianStudy
from spectral_repro.studies.images import ImageDepth
from spectral_repro.studies.initial import InitialGap
from spectral_repro.studies.summary import rows, with_log
from spectral_repro.studies.width import Width

__all__ = ["Depth", "GaussianStudy", "ImageDepth", "InitialGap", "Width", "rows", "with_log"]
