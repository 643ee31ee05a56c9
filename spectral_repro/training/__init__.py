"""The one trainer and what a run leaves behind."""
