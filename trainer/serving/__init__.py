"""What a finished run is good for: its network, preprocessing and answers, for images that it has not seen."""
