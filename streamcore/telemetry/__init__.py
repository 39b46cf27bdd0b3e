"""What a run tells of itself: snapshots of status pages, the account and the report."""
