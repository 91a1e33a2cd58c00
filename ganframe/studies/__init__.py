"""Studies: a recipe over axes and seeds, each cell and seed a run folder of its own."""
