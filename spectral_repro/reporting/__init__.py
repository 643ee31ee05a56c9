"""From run folders to a paper's tables, figures and page."""
