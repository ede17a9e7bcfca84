"""What a submission's code did beyond the border, judged by the grader's own computation."""
