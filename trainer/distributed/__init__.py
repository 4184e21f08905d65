"""One run by several processes, which torchrun starts."""
