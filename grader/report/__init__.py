"""The reports: each is a pure function of one result."""
