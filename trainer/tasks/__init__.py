"""One module per task: its target, loss, metrics, predictions and pictures."""
