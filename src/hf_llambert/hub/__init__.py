"""To the Hub and back: what is published of a run, with which card."""
