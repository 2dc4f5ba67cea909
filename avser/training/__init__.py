"""Training: the LightningModule, one run, folds and seeds, augmentation, search."""
