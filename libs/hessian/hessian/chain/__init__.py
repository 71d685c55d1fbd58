"""The Ethereum node and the contract: block-pinned reads, decoded events, calls to sign. Acts on final blocks only."""
