"""A class run: a folder of hand-ins in; results, a gradebook and pages out."""
