"""BigGAN (Brock et al. 2019, arXiv:1809.11096) as a plugin of ganframe.

This module registers the components.
"""
