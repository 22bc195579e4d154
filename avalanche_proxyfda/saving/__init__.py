"""What a checkpoint is made of: trees of plain data, whole files, models that grew, metrics."""
