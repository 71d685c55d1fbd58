"""What leaves for the chain is a row first. Rows become transactions after their commit, exactly once, whatever crashes in between."""
