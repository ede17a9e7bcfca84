"""What stops a training that would fail in silence: the labels, the inference, every step, the saved adapter."""
