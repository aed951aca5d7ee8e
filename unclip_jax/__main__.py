"""`python -m unclip_jax` is the `unclip` command."""

from unclip_jax.cli.main import main

if __name__ == "__main__":
    main()
