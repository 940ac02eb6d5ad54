"""Reports: what is shown. One function and one template per page."""
