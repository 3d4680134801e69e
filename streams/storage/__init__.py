"""What is kept on disk or in an object store: checkpoints, epochs, archives, views."""
