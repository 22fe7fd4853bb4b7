"""What a bundle is: its parts, its files, the history it reads, the request that proves it, what it was made from."""
