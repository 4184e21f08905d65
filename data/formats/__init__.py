"""Landmarks in the files of other programs: a module per format, which reads them, and renders them as text."""
