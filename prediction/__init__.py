"""From images to results: predictors of every kind, and the one loop over images."""
