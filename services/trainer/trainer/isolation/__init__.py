"""Where a job's process runs: one interface (`worker`), three backends (`local`, `bubblewrap`, `container`), chosen by configuration."""
