"""What runs jobs: receive, claim, run, decide, record, settle."""
