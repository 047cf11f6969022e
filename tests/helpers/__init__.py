"""What several tests need: oracles, small models, feature levels and the golden files."""
