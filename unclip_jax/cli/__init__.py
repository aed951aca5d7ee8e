"""The command line: flags in, library calls, files and lines out."""
