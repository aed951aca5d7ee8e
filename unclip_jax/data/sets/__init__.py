"""The data sets that come with the project: emoji from npm packages, and procedural shapes."""
