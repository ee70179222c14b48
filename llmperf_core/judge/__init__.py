"""What the numbers mean. Pure: everything here can be computed again from a stored run."""
