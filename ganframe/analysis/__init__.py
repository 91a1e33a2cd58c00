"""What is measured of trained networks: divergences, Lipschitz constants, paths in latent space, samples."""
