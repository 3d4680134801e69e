"""`report.html`, the page that checks itself."""
