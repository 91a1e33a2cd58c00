"""How good samples are: metrics fitted to real data, the features that they use, and scores with their protocol."""
