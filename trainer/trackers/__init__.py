"""Trackers: what a run tells TensorBoard, MLflow or Weights & Biases, read from the files that it keeps anyway."""
