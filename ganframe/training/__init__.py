"""Training a recipe: from the recipe to the engine's state, what happens between steps, runs and resuming."""
