"""Recipes: their tables, strict reading from TOML, optimisers and schedules. Nothing here builds or trains."""
