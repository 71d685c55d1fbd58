"""The chassis every service stands on: problem+json, correlation ids, bearer tokens, pages, health, a loop that stops as one."""
