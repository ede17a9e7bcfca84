"""What a student reads: label spans before the training; accuracy, mistakes and plots after it."""
