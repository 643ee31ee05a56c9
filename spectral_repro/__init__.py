"""Layers of deep networks treated through their spectrum: five papers, one trainer."""

__version__ = "0.1.0"
