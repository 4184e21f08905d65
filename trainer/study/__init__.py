"""Studies: sweeps whose trials Optuna asks for, one after the other, and prunes by their validation."""
