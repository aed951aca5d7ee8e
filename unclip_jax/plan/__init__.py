"""What a training costs before it runs: estimates, ahead-of-time compiles, HLO reading."""
