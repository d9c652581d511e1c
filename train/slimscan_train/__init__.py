"""Training: data sets, patient splits, augmentation, the model, the fit and the operating point."""
