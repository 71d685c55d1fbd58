"""The neighbours of this node, one file each: paths and shapes stand here and nowhere else."""
