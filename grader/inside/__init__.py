"""The far side of the border: what runs in the sandbox, beside a submission. It imports nothing of the grader."""
