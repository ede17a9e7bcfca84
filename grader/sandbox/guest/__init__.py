"""The sandbox's guest: what runs beside a submission. It imports nothing of the grader."""
