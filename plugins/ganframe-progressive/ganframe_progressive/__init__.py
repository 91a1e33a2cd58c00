"""Progressive GAN (Karras et al. 2018, arXiv:1710.10196) as a plugin of ganframe.

This module registers the components.
"""
