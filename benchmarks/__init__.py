"""What is measured rather than tested: nothing here is installed, and no test asserts a time."""
