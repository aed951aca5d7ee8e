"""Parameters on disk: training checkpoints (store) and the folder that is shipped (bundle)."""
