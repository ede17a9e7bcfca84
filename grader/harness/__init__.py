"""The harness of the code checks: draws their inputs, runs the jobs, and judges what came back by own computation."""
