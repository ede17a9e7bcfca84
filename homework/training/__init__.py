"""How an adapter is trained: recipe, batches, the Trainer, the folder of a run, saving. Model and rows are given."""
