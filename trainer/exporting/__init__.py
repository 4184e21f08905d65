"""A finished run as one file that other programs run: preprocessing, network and decoding in one graph."""
