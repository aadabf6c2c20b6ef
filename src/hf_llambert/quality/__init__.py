"""Looking at what a run did."""
