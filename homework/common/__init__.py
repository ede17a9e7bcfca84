"""What every part of the homework rests on: errors, the command line, loading a base model, files."""
