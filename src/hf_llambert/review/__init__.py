"""What people say of a run: the rows that they read, their page, their answers."""
