"""What a run is told: typed, self-checking, torch-free dataclasses whose values come from conf/."""
