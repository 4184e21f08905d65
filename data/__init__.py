"""Everything between a table on disk and a batch. Imports neither trainer nor models."""
