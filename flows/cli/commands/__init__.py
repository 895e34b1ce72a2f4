"""The commands of `narrate`, a module for each group.

`runs` makes narrations, `published` works on those that are there, `voices` on voices, and
`maintenance` looks after the installation and the store. Each module holds its group's commands in an app,
`commands`; `flows.cli.main` puts the groups together. Whatever loads Prefect, numpy or an HTTP client is
imported inside the command that needs it: `narrate plan` and `--help` do without.
"""
