"""What a process may use, and ask of the kernel, that reads bytes nobody vouches for: `limits` first, `filter` after its imports."""
