"""Everything between a table on disk and a batch: tables, images, augmentation, loaders, phantoms. Imports neither trainer nor models."""
