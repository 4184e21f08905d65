"""The learning-rate range test (Smith 2015, arXiv:1506.01186, section 3.3)."""
