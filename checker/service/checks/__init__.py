"""What `checker doctor` looks at: each check is a function that answers with one sentence, and what to do."""
