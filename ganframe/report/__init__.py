"""What people look at: pictures of samples, densities, curves and histograms."""
