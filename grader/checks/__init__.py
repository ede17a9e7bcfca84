"""The checks: each is a pytest test with points, and its docstring is the line that the student reads."""
