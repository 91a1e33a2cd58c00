"""Algorithm 1 of Goodfellow et al. 2014. Knows components by their base types alone: no recipes, plugins or files."""
