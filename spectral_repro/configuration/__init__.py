"""From conf/ to a checked configuration, and the identity of a run."""
