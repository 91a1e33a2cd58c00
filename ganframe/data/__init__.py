"""Where tensors come from: real batches for training, real samples for judging, latents, seeds."""
