"""From texts to silver labels: asking, keeping the replies, calibrating, choosing."""
