"""What several analyses share.

common    levels and groups, quantiles of distributions     moments   exact sums, means, variances
scores    how well predicted risks tell two groups apart    folds     patients dealt by a hash
"""
