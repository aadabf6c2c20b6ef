"""Statistics of labels: curves, drift, noise, prevalence, slices, and the gate."""
