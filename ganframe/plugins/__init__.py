"""Installed plugins: found by their entry points, each loaded in isolation, their components looked up by name."""
