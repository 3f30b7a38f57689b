"""What came out of jobs: listed where it is, and copied to this machine."""
