"""The schema of the store, one module for each step it has taken. Applied by ``reconciler.state`` when it opens a file."""
