"""All statistics: intervals, paired tests, resampling, speed ratios, perplexity."""
