"""From run folders to tables, figures and pages; `load_runs` gives all runs as a pandas frame."""

from spectral_repro.reporting.load import load_curves, load_runs

__all__ = ["load_curves", "load_runs"]
