import itertools

from ganframe.data.seeds import derive_seeds


def test_seeds_are_those_of_earlier_versions():
    """Otherwise a recipe would train on other data, from other weights, than before."""
    first = derive_seeds(0)
    assert first == derive_seeds(0, rank=0) == (2968811710, 3677149159, 745650761, 2884920346, 2642120001)
    assert (first.weights, first.data, first.latents, first.torch, first.judging) == first
    assert derive_seeds(0, rank=1) == (3964924996, 1358922860, 3894904162, 2051610843, 908995353)


def test_seeds_are_all_different():
    seeds = [*itertools.chain(*(derive_seeds(seed, rank) for seed in range(20) for rank in range(4)))]
    assert len(set(seeds)) == len(seeds) == 20 * 4 * 5
