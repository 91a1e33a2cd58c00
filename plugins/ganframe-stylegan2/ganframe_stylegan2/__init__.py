"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958) as a plugin of ganframe.

This module registers the components.
"""
