"""Training: data sets, patient splits, augmentation, the model, the fit and the operating point."""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # before TensorFlow is loaded: model optimisation needs Keras 2
